"""What keeps a run out of a bucket, told in the words of its user: credentials, rights, buckets, servers.

The exceptions are known by their names, for the libraries that raise them are loaded only where a
URL is opened. No credentials are in a text: of what the server says only its code is passed on, of
a URL neither user nor password nor query.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_CREDENTIALS = {
    "CredentialRetrievalError", "NoAuthTokenError", "NoCredentialsError", "PartialCredentialsError",
    "ProfileNotFound", "SSOTokenLoadError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
}  # fmt: skip
_NO_SERVER = {"ClientConnectorError", "ConnectTimeoutError", "ConnectionClosedError", "EndpointConnectionError"}
_REFUSED = {
    "ExpiredToken", "InvalidAccessKeyId", "InvalidSecurity", "InvalidToken", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch", "TokenRefreshRequired",
}  # fmt: skip
_DENIED = (401, 403)
_ELSEWHERE = {"301", "307", "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"}
_GIVE = (
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on the workers as well, or pass storage_options "
    "(key, secret, token, profile; anon=True for a public bucket)."
)


def shown(url: str) -> str:
    """`url` without what may be secret in it: user, password, and of a website query and fragment.

    Examples
    --------
    >>> shown("https://me:secret@example.org/2019.csv?X-Amz-Signature=0a1b")
    'https://example.org/2019.csv'
    >>> shown("s3://bucket/ANMO.IU.2024.015#2"), shown("/data/{year}.ms")
    ('s3://bucket/ANMO.IU.2024.015#2', '/data/{year}.ms')
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    if scheme in {"http", "https"}:
        path = re.split("[?#]", path)[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


@contextmanager
def explained(url: str, *, to_write: bool = False) -> Iterator[None]:
    """Let the block say what keeps it from `url`, and what to do; other errors pass as they are.

    Raises ``PermissionError`` without credentials or the right, ``FileNotFoundError`` without a bucket,
    ``ConnectionError`` without a server, ``ImportError`` without the package for the URL.

    Examples
    --------
    >>> with explained("s3://bucket/study.zarr", to_write=True):
    ...     raise PermissionError("Forbidden")
    Traceback (most recent call last):
        ...
    PermissionError: got access denied to s3://bucket/study.zarr, expected the right to write and delete there
    (s3:PutObject, s3:DeleteObject): ask its owner for it, or name other credentials: ...
    """
    try:
        yield
    except Exception as error:
        explanation = told(error, url, to_write=to_write)
        if explanation is None:
            raise
        raise explanation from error


def without_bucket(error: BaseException) -> bool:
    """Whether `error` says that there is not even a bucket."""
    return "NoSuchBucket" in _codes(error)


def told(error: Exception, url: str, *, to_write: bool = False) -> Exception | None:
    """What is to be raised in the place of `error`; None for one that is told already, or says it all."""
    if str(error).startswith("got "):
        return None
    url = shown(url)
    if isinstance(error, ImportError):
        return _without_package(error, url)
    names, codes = {type(e).__name__ for e in _causes(error)}, _codes(error)
    if names & _NO_CREDENTIALS:
        what = "read and write" if to_write else "read"
        return PermissionError(f"got no credentials for {url}, expected some that may {what} there: {_GIVE}")
    # fsspec calls a page that is denied missing.
    if isinstance(error, PermissionError) or any(getattr(e, "status", None) in _DENIED for e in _causes(error)):
        return _denied(url, codes, to_write=to_write)
    return _misdirected(names, codes, url) or (unread(error, url) if _is_foreign(error) else None)


def unread(error: Exception, url: str) -> OSError:
    """What is to be raised in the place of an `error` of which no more is known than its name."""
    names = {type(e).__name__ for e in _causes(error)}
    if "FlexibleChecksumError" in names:
        return OSError(f"got a damaged answer for {shown(url)}, expected what is stored there: try again.")
    named = ", ".join(sorted(names))
    return OSError(f"got {named} for {shown(url)}, expected an answer: check the URL, the options and the network.")


def _misdirected(names: set[str], codes: set[str], url: str) -> OSError | None:
    """What is told of a server, a bucket or a region that is not there."""
    if names & _NO_SERVER:
        return ConnectionError(
            f"got no answer for {url} ({', '.join(sorted(names & _NO_SERVER))}), expected one of its server: check the "
            f"network, and endpoint_url, if it is not Amazon's, in storage_options or as AWS_ENDPOINT_URL."
        )
    if "NoSuchBucket" in codes:
        bucket = "/".join(url.split("/")[:3])
        return FileNotFoundError(f"got no bucket {bucket}, expected one that exists: create it, or correct the name.")
    if codes & _ELSEWHERE:
        return OSError(
            f"got the answer that {url} is in another region, expected the one that was asked: set "
            f"AWS_DEFAULT_REGION, or pass storage_options={{'client_kwargs': {{'region_name': …}}}}."
        )
    return None


def _is_foreign(error: Exception) -> bool:
    """Whether `error` is of the libraries that talk to a server, and so none that a caller knows."""
    root = type(error).__module__.partition(".")[0]
    return not isinstance(error, OSError) and root in {"aiobotocore", "aiohttp", "botocore"}


def _denied(url: str, codes: set[str], *, to_write: bool) -> PermissionError:
    named = "".join(f" ({code})" for code in sorted(codes - {"403"}))
    if codes & _REFUSED:
        return PermissionError(f"got credentials refused for {url}{named}, expected valid ones: {_GIVE}")
    right, actions = (
        ("write and delete", "s3:PutObject, s3:DeleteObject")
        if to_write
        else ("list and read", "s3:ListBucket, s3:GetObject")
    )
    actions = f" ({actions})" if url.startswith("s3") else ""
    check = "" if to_write else "check the URL, for what is not there may be denied too, "
    return PermissionError(
        f"got access denied to {url}, expected the right to {right} there{actions}: {check}ask its owner for it, or "
        f"name other credentials: {_GIVE}"
    )


def _without_package(error: ImportError, url: str) -> ImportError:
    scheme = url.partition("://")[0]
    what = "pip install 'specufex_dask[s3]'" if scheme in {"s3", "s3a"} else f"install what fsspec needs for {scheme}"
    return ImportError(f"got {url}, expected a package that opens it ({error}): {what}.")


def _codes(error: BaseException) -> set[str]:
    """Codes of a server's answers that led to `error`."""
    answers = [getattr(e, "response", None) for e in _causes(error)]
    return {
        str(answer["Error"].get("Code", "")) for answer in answers if isinstance(answer, dict) and "Error" in answer
    }


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
