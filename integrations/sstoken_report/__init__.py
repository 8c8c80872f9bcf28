"""Looking at a selection: which tokens of real samples train, and why.

`sstoken inspect` looks before (or after) training, `report_steps` while training, and `sstoken report` builds the
pages of a run again. A look is a `Report`, a table of tokens; everything else is made from it:

    samples.Samples   a few training samples, batched by the training's own data loader
    scoring.score     what would be selected of them now: a `Report`
    table.Report      the tokens and their scores, as Parquet and JSON
    page, index       what a browser shows; `terminal` what a terminal does
    folder            where a run keeps its reports
    callback          writes one every so many steps
"""
