//! The order of the steps: who waits for whom, who comes before whom, and whether it can be fulfilled at all.

use super::draft::Step;
use super::fields::nearest;
use super::report::Report;
use super::rule::Rule;
use super::span::{At, Span};
use std::collections::{HashMap, VecDeque};

/// The steps as a graph.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Indices of the steps that each step waits for, ascending, each once.
    pub(crate) after: Vec<Vec<usize>>,
    /// `ancestors[i][j]`: step `j` has succeeded whenever step `i` begins.
    ancestors: Vec<Vec<bool>>,
    /// Whether what comes before the step is not fully known, because an `after` on the way to it is wrong.
    doubtful: Vec<bool>,
    /// The first step of each id.
    index: HashMap<String, usize>,
}

impl Graph {
    /// The graph of the steps. Wrong ids and circles are reported.
    pub(crate) fn build(steps: &[Step], report: &mut Report<'_>) -> Self {
        let index = index(steps, report);
        let explicit = steps.iter().any(|step| step.after.is_some());
        let mut doubtful = vec![false; steps.len()];
        let mut after = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            let mut before = match &step.after {
                Some(ids) => {
                    let found: Vec<_> = ids.iter().filter_map(|id| resolve(id, &index, report)).collect();
                    doubtful[at] = found.len() < ids.len();
                    found
                }
                None if explicit => Vec::new(),
                None => at.checked_sub(1).into_iter().collect(),
            };
            before.sort_unstable();
            before.dedup();
            after.push(before);
            if explicit && at > 0 && step.after.is_none() {
                let message = "other steps use `after` and this one does not: it starts at once, whatever stands above it";
                report.add_with_help(Rule::MixedOrder, step.span, message, "write `after: []` if it is to start at once");
            }
        }
        let ancestors: Vec<_> = (0..steps.len()).map(|at| reachable(&after, at)).collect();
        for at in 0..steps.len() {
            doubtful[at] |=
                steps[at].id.is_none() || ancestors[at].iter().zip(steps).any(|(&is_before, step)| is_before && step.id.is_none());
        }
        let doubtful =
            (0..steps.len()).map(|at| doubtful[at] || (0..steps.len()).any(|other| ancestors[at][other] && doubtful[other])).collect();
        let graph = Self { after, ancestors, doubtful, index };
        graph.report_cycles(steps, report);
        graph
    }

    /// Whether step `before` has succeeded whenever step `at` begins.
    pub(crate) fn is_ancestor(&self, before: usize, at: usize) -> bool {
        self.ancestors[at][before]
    }

    /// Whether it is not fully known what comes before the step.
    pub(crate) fn is_doubtful(&self, at: usize) -> bool {
        self.doubtful[at]
    }

    /// Whether it is fully known what comes before what.
    pub(crate) fn is_sound(&self) -> bool {
        !self.doubtful.contains(&true) && (0..self.after.len()).all(|at| !self.ancestors[at][at])
    }

    /// The step with the id.
    pub(crate) fn find(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The id that differs least.
    pub(crate) fn nearest(&self, id: &str) -> Option<&str> {
        let mut ids: Vec<&str> = self.index.keys().map(String::as_str).collect();
        ids.sort_unstable();
        nearest(id, ids.into_iter())
    }

    /// The steps in an order in which each stands behind all it waits for: the order of the text as far as it is one.
    pub(crate) fn topological_order(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.after.len());
        let mut placed = vec![false; self.after.len()];
        while let Some(next) = (0..self.after.len()).find(|&at| !placed[at] && self.after[at].iter().all(|&before| placed[before])) {
            placed[next] = true;
            order.push(next);
        }
        order
    }

    /// One fault for each set of steps that wait for each other.
    fn report_cycles(&self, steps: &[Step], report: &mut Report<'_>) {
        let mut reported = vec![false; steps.len()];
        for at in 0..steps.len() {
            if reported[at] || !self.ancestors[at][at] {
                continue;
            }
            for (other, reported) in reported.iter_mut().enumerate() {
                *reported |= self.ancestors[at][other] && self.ancestors[other][at];
            }
            let circle = self.circle(at);
            let name = |at: usize| steps[at].id.as_ref().map_or("?", |id| id.as_str());
            let names: Vec<_> = circle.iter().map(|&at| name(at)).collect();
            let next = circle.get(1).map_or("", |&next| name(next));
            let span = place_in_after(&steps[at], next);
            let message = format!("steps wait for each other in a circle: {}", names.join(" -> "));
            report.add_with_help(Rule::Cycle, span, message, "remove one of these from an `after`");
        }
    }

    /// A shortest way from a step over what it waits for back to itself, with the step at both ends.
    fn circle(&self, start: usize) -> Vec<usize> {
        let mut came_from = vec![None; self.after.len()];
        let mut open = VecDeque::from([start]);
        while let Some(at) = open.pop_front() {
            for &next in &self.after[at] {
                if next == start {
                    let mut way: Vec<_> = core::iter::successors(Some(at), |&at| came_from[at]).collect();
                    way.reverse();
                    way.push(start);
                    return way;
                }
                if came_from[next].is_none() {
                    came_from[next] = Some(at);
                    open.push_back(next);
                }
            }
        }
        vec![start]
    }
}

fn index(steps: &[Step], report: &mut Report<'_>) -> HashMap<String, usize> {
    let mut index = HashMap::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let Some(id) = &step.id else { continue };
        if index.contains_key(id.as_str()) {
            report.add_with_help(
                Rule::DuplicateStep,
                step.span,
                format!("there is a step `{id}` already"),
                "give each step an id of its own",
            );
        } else {
            index.insert(id.as_str().to_owned(), at);
        }
    }
    index
}

fn resolve(id: &At<String>, index: &HashMap<String, usize>, report: &mut Report<'_>) -> Option<usize> {
    let found = index.get(&id.value).copied();
    if found.is_none() {
        let mut ids: Vec<&str> = index.keys().map(String::as_str).collect();
        ids.sort_unstable();
        let help = match nearest(&id.value, ids.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known steps: {}", ids.join(", ")),
        };
        report.add_with_help(Rule::UnknownStep, id.span, format!("there is no step `{}`", id.value), help);
    }
    found
}

fn reachable(after: &[Vec<usize>], start: usize) -> Vec<bool> {
    let mut seen = vec![false; after.len()];
    let mut open = after[start].clone();
    while let Some(at) = open.pop() {
        if !seen[at] {
            seen[at] = true;
            open.extend(&after[at]);
        }
    }
    seen
}

fn place_in_after(step: &Step, id: &str) -> Span {
    step.after.iter().flatten().find(|entry| entry.value == id).map_or(step.span, |entry| entry.span)
}
