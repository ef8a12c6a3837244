"""The Data Docs page of one validation, as a single file that opens without a network.

The page that Great Expectations writes fetches Bootstrap, jQuery, fonts and its logo from several hosts and is
unreadable without them. Its sections, one for each column, are kept here; the frame around them (`templates/page.j2`),
the summary above them and the style sheet are Darkroom's own.
"""

from jinja2 import ChoiceLoader, PackageLoader

from darkroom.validation.gx import (
    DefaultJinjaPageView,
    ExpectationSuiteValidationResult,
    ValidationResultsPageRenderer,
)
from darkroom.validation.report import ValidationReport


def render_page(result: ExpectationSuiteValidationResult, report: ValidationReport) -> str:
    """Render a validation as HTML: the verdict, what does not hold, the classes, then every expectation by column."""
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    view = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([PackageLoader("darkroom.validation", "templates"), view.env.loader])
    return str(view.render(document, report=report))
