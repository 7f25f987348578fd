"""A report of a run: one HTML file that needs nothing else, and a trace for Perfetto beside it.

`Engine.report` imports this package when it is called, so it costs nothing to others.

    facts      what a report is made of: the atoms, their links, the history, what people did
    calls      calls, read from the history: who waited how long for which worker; the critical path; the rollback
    texts      texts of users as HTML, values as JSON, durations; the type and the size of a value
    timeline   the calls by worker, waiting apart from running
    table      the table of atoms
    failures   failures, and what ran before them
    page       the page around all that, with `page.css` and `page.js`
    trace      the calls as TrackEvents, which Perfetto reads
    writing    both as files

What must stay true: a text that comes from a user is data in the page, whatever is in it; without `values=True` no
result is shown, but its type and its size; with JavaScript off all text is there; the size is linear in the atoms and
the history, and what is drawn of them is bounded.
"""
