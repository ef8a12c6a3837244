"""What went wrong with MLflow, in one line for a person."""

import socket


def in_words(error: BaseException) -> str:
    """One line for a failure of MLflow, of the connection to it or of its artifact store."""
    from urllib3.exceptions import ProtocolError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionError | ProtocolError | TimeoutError | socket.gaierror):
            return "the server does not answer"
        if getattr(cause, "error_code", None) == "UNAUTHENTICATED":
            return "the server wants another account than MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name"
        cause = cause.__cause__ or cause.__context__
    first_line = str(error).strip().partition("\n")[0]
    return first_line or type(error).__name__
