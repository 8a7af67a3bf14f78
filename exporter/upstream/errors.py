"""The exceptions of a request, and their texts: one plain sentence for what libcurl and OpenSSL report."""

import os
import re

import pycurl
from requests import ConnectionError, RequestException
from requests.exceptions import ContentDecodingError, InvalidURL, SSLError

#: How a request ends that failed. The text says why.
FetchError = RequestException


class TooManyRequests(FetchError):
    """A limit of requests in flight is reached; the request was not sent."""


def failed(kind: type[FetchError], reason: str, *, sent: bool = True) -> FetchError:
    """Returns an exception of requests. The reason holds neither a header nor the userinfo of a URL.

    Its attribute `sent` is whether the server may have received the request.
    """
    error = kind(reason)
    error.sent = sent  # type: ignore[attr-defined]
    return error


def not_sent(error: OSError | ValueError) -> FetchError:
    """Returns the exception for a request that could not be built, such as for a file that cannot be read."""
    reason = str(error)
    if isinstance(error, OSError):
        reason = f"{error.filename or 'the exporter'}: {(error.strerror or reason).lower()}"
    return failed(FetchError, reason, sent=False)


def curl_error(
    curl: pycurl.Curl, code: int, text: str, *, is_https: bool, verify: bool | str, cert: str | tuple[str, str] | None
) -> tuple[type[FetchError], str]:
    """Returns the kind and the reason for an error of libcurl; the reason may name the host and the TLS files."""
    if code in _REASONS:
        return _REASONS[code]
    if code == pycurl.E_COULDNT_CONNECT:
        number = curl.getinfo(pycurl.OS_ERRNO)  # of the last address that was tried, and only set for this code
        return ConnectionError, f"no connection: {os.strerror(number).lower() if number else _short(text)}"
    if code == pycurl.E_SSL_CACERT_BADFILE:
        return SSLError, f"{verify}: expected certificates in PEM"
    if code == pycurl.E_SSL_CERTPROBLEM or "unable to set private key" in text:
        files = cert if isinstance(cert, str) or not cert else " and ".join(cert)
        return SSLError, f"{files}: expected a certificate and its private key, without a passphrase, in PEM"
    is_verification = code == pycurl.E_PEER_FAILED_VERIFICATION
    if is_https and (is_verification or code == pycurl.E_SSL_CONNECT_ERROR or "SSL routines" in text):
        return SSLError, f"TLS: {_tls(text, is_verification=is_verification, has_cert=bool(cert))}"
    broken = re.fullmatch(r"(?:Recv|Send) failure: (.*)", text)
    if not broken:
        return ContentDecodingError, f"the response is damaged: {_short(text)}"
    if curl.getinfo(pycurl.HEADER_SIZE):
        return ConnectionError, _short(broken[1]).lower()
    # With TLS 1.3 the server checks a client certificate after the handshake, and its alert can be lost.
    guess = f"does the server {'accept the' if cert else 'require a'} client certificate?"
    guess = guess if is_https else "does the server expect TLS?"
    return ConnectionError, f"the connection was closed without a response; {guess}"


#: The kind and the reason for a host name without an address.
UNKNOWN_HOST: tuple[type[FetchError], str] = (ConnectionError, "the host name is not known")

_REASONS: dict[int, tuple[type[FetchError], str]] = {
    pycurl.E_URL_MALFORMAT: (InvalidURL, "the URL cannot be used"),
    pycurl.E_COULDNT_RESOLVE_HOST: UNKNOWN_HOST,
    pycurl.E_GOT_NOTHING: (ConnectionError, "the connection was closed without a response"),
    pycurl.E_UNSUPPORTED_PROTOCOL: (ContentDecodingError, "the response is not HTTP"),
    pycurl.E_PARTIAL_FILE: (ConnectionError, "the response was cut off"),
    pycurl.E_BAD_CONTENT_ENCODING: (ContentDecodingError, "the response cannot be decompressed"),
    100: (ContentDecodingError, "the header of the response is too large"),  # CURLE_TOO_LARGE has no name in pycurl
}

#: The errors of OpenSSL's X509_verify_cert_error_string and ssl_err.c, whose alerts the server sends, and their texts.
_TLS = {
    r"(?:does not match|name matches) target [\w ]*'(.+)'": r"the server's certificate is not valid for \1",
    "certificate has expired": "the server's certificate has expired",
    "certificate is not yet valid": "the server's certificate is not valid yet",
    "self-signed certificate in certificate chain|unable to get (?:local )?issuer certificate": (
        "the server's certificate is signed by an authority that is not trusted"
    ),
    "self-signed certificate": "the server's certificate is self-signed and not trusted",
    "alert certificate required": "the server requires a client certificate",
    "alert unknown ca": "the server does not trust the authority of the client certificate",
    # The second one is libcurl's text for this alert.
    "alert certificate expired|^SSL certificate verification failed$": (
        "the server reports that the client certificate has expired"
    ),
    "alert protocol version|unsupported protocol": "the server does not support TLS 1.2 or later",
    "wrong version number": "the server does not speak TLS; is it an http:// server?",
    "unrecognized name": "the server does not serve that name",
}


def _tls(text: str, *, is_verification: bool, has_cert: bool) -> str:
    for pattern, said in _TLS.items():
        if match := re.search(pattern, text):
            return match.expand(said)
    if is_verification:
        return f"the server's certificate is not accepted: {_short(text)}"
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
