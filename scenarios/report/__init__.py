"""The report that people read: one self-contained page a run, a sweep, or one that compares runs.

``write``, ``write_sweep`` and ``compare`` work from what is in folders alone, so that a report can be made again at
any time. Pages have no script and load nothing: style, plots and numbers are inside, and a content security policy says
so to the browser. Plots are SVG from our own templates rather than a plotting library's: their text stays text, they
follow the reader's light or dark theme, and writing them takes milliseconds. Beside a page they stand as SVG and PNG.

record.py         a run folder, or one party's of a run on the network, read back
conversation.py   the transcript, folded into who sends what to whom
plots.py          curves and bars
charts.py         what is drawn of a run
page.py           a run's page, or one party's
comparison.py     the page of several runs
sweep_page.py     a sweep's page
"""

from scenarios.report.comparison import compare
from scenarios.report.page import write
from scenarios.report.sweep_page import write_sweep

__all__ = ["compare", "write", "write_sweep"]
