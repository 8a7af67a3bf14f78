"""The exceptions of a request, and their texts: one plain sentence for what libcurl and OpenSSL report."""

import os
import re

import pycurl
import requests
from requests import PreparedRequest


class FetchError(requests.RequestException):
    """A request failed. The text says why, and holds neither a header nor the userinfo of a URL.

    `sent` is whether the server may have received the request.
    """

    def __init__(self, reason: str, request: PreparedRequest | None = None, *, sent: bool = True):
        super().__init__(reason, request=request)
        self.sent = sent


class TooManyRequests(FetchError):
    """A limit of requests in flight is reached; the request was not sent."""


class ConnectionFailed(FetchError, requests.ConnectionError):
    """The connection could not be made, or ended before the whole response."""


class ConnectTimedOut(FetchError, requests.ConnectTimeout):
    """The connection was not made in time."""


class ReadTimedOut(FetchError, requests.ReadTimeout):
    """The whole response did not arrive in time."""


class TLSFailed(FetchError, requests.exceptions.SSLError):
    """The TLS handshake failed, or the certificate was not accepted."""


class URLNotValid(FetchError, requests.exceptions.InvalidURL):
    """The URL cannot be requested."""


class ResponseNotValid(FetchError, requests.exceptions.ContentDecodingError):
    """The response is not HTTP, or cannot be decompressed."""


def not_sent(error: OSError | ValueError, request: PreparedRequest | None = None) -> URLNotValid:
    """Returns the exception for a request that could not be built, such as for a file that cannot be read."""
    reason = f"{error.filename}: {(error.strerror or '').lower()}" if isinstance(error, OSError) else str(error)
    return URLNotValid(reason, request, sent=False)


def curl_error(
    curl: pycurl.Curl,
    code: int,
    text: str,
    request: PreparedRequest,
    *,
    verify: bool | str,
    cert: str | tuple[str, str] | None,
) -> FetchError:
    """Returns the exception for libcurl's error code and text. It may name the host of the URL and the TLS files."""
    sent = curl.getinfo(pycurl.REQUEST_SIZE) > 0
    is_https = str(request.url).startswith("https:")
    if code in _REASONS:
        kind, reason = _REASONS[code]
        return kind(reason, request, sent=sent)
    if code == pycurl.E_COULDNT_CONNECT:
        number = curl.getinfo(pycurl.OS_ERRNO)  # of the last address that was tried, and only set for this code
        reason = os.strerror(number).lower() if number else _short(text)
        return ConnectionFailed(f"no connection: {reason}", request, sent=sent)
    if code == pycurl.E_SSL_CACERT_BADFILE:
        return TLSFailed(f"{verify}: expected certificates in PEM", request, sent=sent)
    if code == pycurl.E_SSL_CERTPROBLEM or "unable to set private key" in text:
        files = cert if isinstance(cert, str) or not cert else " and ".join(cert)
        reason = "expected a certificate and its private key, without a passphrase, in PEM"
        return TLSFailed(f"{files}: {reason}", request, sent=sent)
    if is_https and code == pycurl.E_PEER_FAILED_VERIFICATION:
        return TLSFailed(f"TLS: {_verification(text)}", request, sent=sent)
    if is_https and (code == pycurl.E_SSL_CONNECT_ERROR or "SSL routines" in text):
        return TLSFailed(f"TLS: {_handshake(text, bool(cert))}", request, sent=sent)
    broken = re.fullmatch(r"(?:Recv|Send) failure: (.*)", text)
    if not broken:
        return ResponseNotValid(f"the response is damaged: {_short(text)}", request, sent=sent)
    if curl.getinfo(pycurl.HEADER_SIZE):
        return ConnectionFailed(_short(broken[1]).lower(), request, sent=sent)
    # With TLS 1.3 the server checks a client certificate after the handshake, and its alert can be lost.
    guess = f"does the server {'accept the' if cert else 'require a'} client certificate?"
    guess = guess if is_https else "does the server expect TLS?"
    return ConnectionFailed(f"the connection was closed without a response; {guess}", request, sent=sent)


_REASONS: dict[int, tuple[type[FetchError], str]] = {
    pycurl.E_URL_MALFORMAT: (URLNotValid, "the URL cannot be used"),
    pycurl.E_COULDNT_RESOLVE_HOST: (ConnectionFailed, "the host name is not known"),
    pycurl.E_GOT_NOTHING: (ConnectionFailed, "the connection was closed without a response"),
    pycurl.E_UNSUPPORTED_PROTOCOL: (ResponseNotValid, "the response is not HTTP"),
    pycurl.E_PARTIAL_FILE: (ConnectionFailed, "the response was cut off"),
    pycurl.E_BAD_CONTENT_ENCODING: (ResponseNotValid, "the response cannot be decompressed"),
    100: (ResponseNotValid, "the header of the response is too large"),  # CURLE_TOO_LARGE has no name in pycurl
}

#: The errors of OpenSSL's X509_verify_cert_error_string, and their texts here.
_VERIFICATION = {
    "certificate has expired": "has expired",
    "certificate is not yet valid": "is not valid yet",
    "self-signed certificate in certificate chain": "is signed by an authority that is not trusted",
    "unable to get local issuer certificate": "is signed by an authority that is not trusted",
    "unable to get issuer certificate": "is signed by an authority that is not trusted",
    "self-signed certificate": "is self-signed and not trusted",
}


def _verification(text: str) -> str:
    if match := re.search(r"(?:does not match|name matches) target [\w ]*'(.+)'", text):
        return f"the server's certificate is not valid for {match[1]}"
    for found, said in _VERIFICATION.items():
        if found in text:
            return f"the server's certificate {said}"
    if text == "SSL certificate verification failed":  # libcurl's text for the alert certificate_expired
        return _ALERTS["alert certificate expired"]
    return f"the server's certificate is not accepted: {_short(text)}"


#: How a handshake ends (OpenSSL's ssl_err.c), and the text here. Alerts are sent by the server.
_ALERTS = {
    "alert certificate required": "the server requires a client certificate",
    "alert unknown ca": "the server does not trust the authority of the client certificate",
    "alert certificate expired": "the server reports that the client certificate has expired",
    "alert protocol version": "the server does not support TLS 1.2 or later",
    "unsupported protocol": "the server does not support TLS 1.2 or later",
    "wrong version number": "the server does not speak TLS; is it an http:// server?",
    "unrecognized name": "the server does not serve that name",
}


def _handshake(text: str, has_cert: bool) -> str:
    for found, said in _ALERTS.items():
        if found in text:
            return said
    refused = re.search(r"alert ((?:bad|unsupported) certificate|certificate (?:unknown|revoked)|access denied)", text)
    if refused and has_cert:
        return f"the server does not accept the client certificate ({refused[1]})"
    if refused:
        return "the server requires a client certificate"
    if "alert handshake failure" in text and not has_cert:  # TLS 1.2 has no alert for a missing certificate
        return "the server refused the handshake; does it require a client certificate?"
    return _short(re.sub(r", errno \d+$", "", text))


def _short(text: str) -> str:
    return ascii(text.rpartition("::")[2])[1:-1][:200]
