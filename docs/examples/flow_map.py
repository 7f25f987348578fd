"""Looking at a flow: its links, its tree, and the graph that is run, also as text for Graphviz.

Nothing has to be run for it. `iter_links` shows one flow and why its members follow each other; a compiled engine has
the whole, nested flows included.
"""

from __future__ import annotations

from taskflowx import engines, retry, task
from taskflowx.patterns import graph_flow, linear_flow


class Step(task.Task):
    def execute(self, **inputs: object) -> None:
        pass


def garden() -> linear_flow.Flow:
    beds = graph_flow.Flow("beds", retry=retry.Times(2, name="again"))
    dig, rake = Step("dig", provides="soil"), Step("rake", requires=["soil"], provides="bed")
    sow, water = Step("sow", requires=["bed"]), Step("water")
    beds.add(dig, rake, sow, water)
    beds.link(sow, water)
    return linear_flow.Flow("garden").add(Step("fence"), beds, Step("rest"))


def main() -> None:
    flow = garden()
    [_, beds, _] = flow
    print("links:")
    for before, after, why in beds.iter_links():
        print(f"  {before.name} -> {after.name}:", "by hand" if "manual" in why else f"needs {sorted(why['reasons'])}")

    engine = engines.load(flow)
    engine.compile()
    compilation = engine.compilation
    assert compilation is not None  # as it has been compiled
    print("tree:")
    print(compilation.hierarchy.pformat())
    graph = compilation.execution_graph
    tasks = [node.name for node in graph.topological_sort() if graph.nodes[node]["kind"] == "task"]
    print("one order in which it can run:", ", ".join(tasks))
    print("nodes and links:", graph.number_of_nodes(), graph.number_of_edges())
    print("for Graphviz:", graph.export_to_dot().splitlines()[0], "...")


if __name__ == "__main__":
    main()

# Output:
#   links:
#     dig -> rake: needs ['soil']
#     rake -> sow: needs ['bed']
#     sow -> water: by hand
#   tree:
#   "linear_flow.Flow: garden(len=3)"
#   |__"fence==1.0"
#   |__"graph_flow.Flow: beds(len=4)"
#   |  |__"again==1.0"
#   |  |__"dig==1.0"
#   |  |__"rake==1.0"
#   |  |__"sow==1.0"
#   |  |__"water==1.0"
#   |__"rest==1.0"
#   one order in which it can run: fence, dig, rake, sow, water, rest
#   nodes and links: 11 10
#   for Graphviz: strict digraph "garden" { ...
