"""What data validation uses of Great Expectations, imported in one place because its import warns."""

import warnings

with warnings.catch_warnings():
    # google-api-core, which Great Expectations imports where it is installed, wants a package for better gRPC errors.
    warnings.filterwarnings("ignore", "Please install grpcio-status", ImportWarning)
    # great_expectations 1.24 imports two modules of re's that Python 3.11 deprecates.
    warnings.filterwarnings("ignore", "module 'sre_(constants|parse)' is deprecated", DeprecationWarning)
    from great_expectations import ExpectationSuite, get_context
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.expectations.expectation import Expectation
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.row_conditions import Column
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView
    from great_expectations.util import convert_to_json_serializable

__all__ = [
    "Column",
    "DataContextConfig",
    "DefaultJinjaPageView",
    "Expectation",
    "ExpectationConfiguration",
    "ExpectationSuite",
    "ExpectationSuiteValidationResult",
    "ExpectationValidationResult",
    "InMemoryStoreBackendDefaults",
    "ProgressBarsConfig",
    "ValidationResultsPageRenderer",
    "convert_to_json_serializable",
    "get_context",
]
