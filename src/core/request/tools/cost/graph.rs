//! The graph of a schema's references.

/// A schema that references lead to, without what its own references lead to.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Steps in it for one value.
    pub(super) steps: u64,
    /// Schemas within each other that apply to one value.
    pub(super) nested: u64,
    /// The same for the node's own value.
    pub(super) nested_here: u64,
    /// Its references.
    pub(super) edges: Vec<Edge>,
}

/// A reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// The node it leads to.
    pub(super) to: usize,
    /// It applies to the node's own value.
    pub(super) here: bool,
    /// Schemas around it that apply to the same value.
    pub(super) nested: u64,
    /// How often it is followed.
    pub(super) times: u64,
}

/// Nodes and what can be reached from each. There are at most 64.
pub(super) struct Graph {
    nodes: Vec<Node>,
    /// Sets of nodes, a bit each: what can be reached over at least one edge.
    reached: Vec<u64>,
    /// The same over edges that stay at the value.
    reached_here: Vec<u64>,
}

impl Graph {
    /// The graph of at most 64 nodes; those beyond them are taken for unreachable.
    pub(super) fn of(mut nodes: Vec<Node>) -> Self {
        nodes.truncate(u64::BITS as usize);
        let reached = closure(&nodes, |_| true);
        let reached_here = closure(&nodes, |edge| edge.here);
        Self {
            nodes,
            reached,
            reached_here,
        }
    }

    /// Whether a circle of references never leaves the value.
    pub(super) fn is_endless(&self) -> bool {
        (0..self.nodes.len()).any(|node| has(self.reached_here[node], node))
    }

    /// Steps for one value, from the first node.
    pub(super) fn steps(&self) -> u64 {
        self.steps_from(0, &mut vec![None; self.nodes.len()])
    }

    fn steps_from(&self, node: usize, known: &mut Vec<Option<u64>>) -> u64 {
        if let Some(steps) = known[node] {
            return steps;
        }
        let circle = self.circle(node);
        let members = || (0..self.nodes.len()).filter(|n| has(circle, *n));
        let mut steps = 0_u64;
        for member in members() {
            steps = steps.saturating_add(self.nodes[member].steps);
            for edge in self.nodes[member].edges.iter().filter(|e| !has(circle, e.to)) {
                let beyond = self.steps_from(edge.to, known).saturating_mul(edge.times);
                steps = steps.saturating_add(beyond);
            }
        }
        let mut ways = vec![None; self.nodes.len()];
        let most = members().map(|n| self.ways(n, circle, &mut ways)).max();
        let steps = steps
            .saturating_mul(most.unwrap_or(1))
            .saturating_mul(self.edges_in(circle).max(1));
        for member in members() {
            known[member] = Some(steps);
        }
        steps
    }

    /// Ways inside a circle that stay at the value.
    fn ways(&self, node: usize, circle: u64, known: &mut Vec<Option<u64>>) -> u64 {
        if let Some(ways) = known[node] {
            return ways;
        }
        let mut ways = 1_u64;
        for edge in &self.nodes[node].edges {
            if edge.here && has(circle, edge.to) {
                let more = self.ways(edge.to, circle, known).saturating_mul(edge.times);
                ways = ways.saturating_add(more);
            }
        }
        known[node] = Some(ways);
        ways
    }

    /// The nodes from which this one can be reached again, and itself.
    fn circle(&self, node: usize) -> u64 {
        let back =
            (0..self.nodes.len()).filter(|n| has(self.reached[*n], node) && has(self.reached[node], *n));
        back.fold(1 << node, |set, n| set | 1 << n)
    }

    /// Edges inside the circle that has most of them.
    pub(super) fn branches(&self) -> u64 {
        let circles = (0..self.nodes.len()).map(|node| self.edges_in(self.circle(node)));
        circles.max().unwrap_or(0)
    }

    /// Edges inside a circle, each as often as it is followed.
    fn edges_in(&self, circle: u64) -> u64 {
        let members = (0..self.nodes.len()).filter(|node| has(circle, *node));
        let edges = members.flat_map(|node| &self.nodes[node].edges);
        edges
            .filter(|edge| has(circle, edge.to))
            .fold(0_u64, |sum, edge| sum.saturating_add(edge.times))
    }

    /// Schemas within each other that apply to one value, at most.
    pub(super) fn nesting(&self) -> u64 {
        let mut known = vec![None; self.nodes.len()];
        let mut most = 0;
        for node in &self.nodes {
            most = most.max(node.nested);
            for edge in &node.edges {
                most = most.max(edge.nested.saturating_add(self.nesting_here(edge.to, &mut known)));
            }
        }
        most
    }

    /// The same from a node on. There is no circle of edges that stay at the value.
    fn nesting_here(&self, node: usize, known: &mut Vec<Option<u64>>) -> u64 {
        if let Some(nesting) = known[node] {
            return nesting;
        }
        let mut most = self.nodes[node].nested_here;
        for edge in self.nodes[node].edges.iter().filter(|e| e.here) {
            most = most.max(edge.nested.saturating_add(self.nesting_here(edge.to, known)));
        }
        known[node] = Some(most);
        most
    }
}

const fn has(set: u64, node: usize) -> bool {
    set >> node & 1 == 1
}

/// What can be reached from each node over the edges that count.
fn closure(nodes: &[Node], counts: impl Fn(&Edge) -> bool) -> Vec<u64> {
    let direct = |node: &Node| {
        let edges = node.edges.iter().filter(|edge| counts(edge));
        edges.fold(0, |set, edge| set | 1 << edge.to)
    };
    let mut reached: Vec<u64> = nodes.iter().map(direct).collect();
    for middle in 0..nodes.len() {
        for from in 0..nodes.len() {
            if has(reached[from], middle) {
                reached[from] |= reached[middle];
            }
        }
    }
    reached
}
