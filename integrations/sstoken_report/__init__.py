"""Looking at a selection: which tokens of real samples train, and why.

`sstoken inspect` looks before (or after) training, `report_steps` while training, `notebook.show` in a notebook, and
`sstoken report` builds the pages of a run again. A look is a `Report`, a table of tokens; everything else is made from
it:

    samples.Samples   a few training samples, batched by the training's own data loader
    scoring.score     what would be selected of them now: a `Report`
    columns, asking   which numbers it has, and what the method says of them: none is known by name
    controls          the options that a reader can move, and what would be selected then
    table.Report      the tokens and their numbers, as Parquet and JSON; `checks` is for reading them
    page, index       what a browser shows; `terminal` what a terminal does, `notebook` what a notebook does
    folder            where a run keeps its reports
    callback          writes one every so many steps; `plugin` registers it
"""
