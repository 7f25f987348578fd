"""Pictures of flows and runs, as SVG, Mermaid, Graphviz and text, without another library.

`Flow.picture` and `Engine.picture` import this package when they are called, so it costs nothing to others.

    reading    a flow becomes boxes and links; what is too much for one picture is folded
    wording    names and numbers as short text, and how wide it is
    layout     where boxes are: the members of one flow at a time, from the inside out
    layers     the layout of one graph flow
    routes     the ways of links
    svg        the picture as SVG
    texts      the picture as Mermaid, Graphviz and plain text
    picture    `Picture`, what users get

What must stay true: nothing here recurses over a flow or changes one, and the cost is linear in its atoms and links.
This package knows flows and atoms alone; what an engine knows about a run comes as one `Status` for each atom.
"""
