//! The e-commerce example: order, payment, inventory and shipping services.
