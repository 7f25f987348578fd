"""Shapes of work that name no engine: for each node, the nodes whose results it takes.

Nodes are numbers, and each takes only smaller ones. Whatever runs a workload, here or on another engine, is given
one of these, so all sides run the same graph. Imports nothing, as it is read in the environments of other engines.
"""

import random as random_numbers

WIDTH = 50  # nodes of a layer
INPUTS = 3  # what a node of a layer takes
LOOK_BACK = 100  # how far back a node of a random graph looks
SEED = 1908

Graph = list[list[int]]


def unordered(nodes: int) -> Graph:
    """Return nodes that do not depend on each other."""
    return [[] for _ in range(nodes)]


def chain(nodes: int) -> Graph:
    """Return nodes each of which takes the result of the one before it."""
    return [[node - 1] if node else [] for node in range(nodes)]


def two_chains(nodes: int) -> Graph:
    """Return two chains side by side: two workers are busy only if each result sets off the next call at once."""
    return [[node - 2] if node > 1 else [] for node in range(nodes)]


def layers(nodes: int) -> Graph:
    """Return layers of `WIDTH` nodes, each of which takes three results of the layer above."""
    return [
        [node - node % WIDTH - WIDTH + (node + k) % WIDTH for k in range(INPUTS)] if node >= WIDTH else []
        for node in range(nodes)
    ]


def tree(nodes: int) -> Graph:
    """Return a reduction: half of the nodes are leaves, each other takes two results, and the last one has them all."""
    leaves = nodes // 2 + 1
    return [[] if node < leaves else [2 * (node - leaves), 2 * (node - leaves) + 1] for node in range(nodes)]


def diamonds(nodes: int) -> Graph:
    """Return a ladder of diamonds: one node, two that take its result, one that takes theirs, and so on."""
    return [[[node - 2, node - 1] if node > 2 else [], [node - 1], [node - 2]][node % 3] for node in range(nodes)]


def random(nodes: int) -> Graph:
    """Return nodes that take up to three results of the hundred nodes before them, the same in each run."""
    numbers = random_numbers.Random(SEED)
    before = []
    for node in range(nodes):
        reachable = range(max(0, node - LOOK_BACK), node)
        before.append(sorted(numbers.sample(reachable, min(len(reachable), numbers.randint(0, INPUTS)))))
    return before


GRAPHS = {
    "unordered": unordered,
    "chain": chain,
    "two-chains": two_chains,
    "layers": layers,
    "tree": tree,
    "diamonds": diamonds,
    "random": random,
}
