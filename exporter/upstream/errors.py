"""Why a request has failed, as a person would say it, from what libcurl and OpenSSL say."""

import os
import re

import pycurl

from exporter.upstream.target import Target


def reason(curl: pycurl.Curl, code: int, text: str, target: Target) -> str:
    """Returns the reason in one line, from libcurl's code and text; it may name the target's host and its files."""
    if code in _REASONS:
        return _REASONS[code]
    if code == pycurl.E_COULDNT_CONNECT:
        number = curl.getinfo(pycurl.OS_ERRNO)  # of the last address that was tried, so for no other code
        return f"no connection: {os.strerror(number).lower() if number else _short(text)}"
    if code == pycurl.E_SSL_CACERT_BADFILE:
        return f"{target.verify}: expected certificates in PEM"
    if code == pycurl.E_SSL_CERTPROBLEM or "unable to set private key" in text:
        files = " and ".join(filter(None, (target.cert_file, target.key_file)))
        return f"{files}: expected a certificate and its private key, without a passphrase, in PEM"
    if target.url.startswith("https:"):
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            return f"TLS: {_verification(text)}"
        if code == pycurl.E_SSL_CONNECT_ERROR or "SSL routines" in text:
            return f"TLS: {_handshake(text, target)}"
    broken = re.fullmatch(r"(?:Recv|Send) failure: (.*)", text)
    if not broken:
        return f"the answer is damaged: {_short(text)}"
    if curl.getinfo(pycurl.HEADER_SIZE):
        return _short(broken[1]).lower()
    return f"the connection was closed without an answer; {_guess(target)}"


_REASONS = {
    pycurl.E_URL_MALFORMAT: "the URL cannot be used",
    pycurl.E_COULDNT_RESOLVE_HOST: "the host name is not known",
    pycurl.E_GOT_NOTHING: "the connection was closed without an answer",
    pycurl.E_UNSUPPORTED_PROTOCOL: "the answer is not HTTP",
    pycurl.E_PARTIAL_FILE: "the answer was cut off",
    pycurl.E_BAD_CONTENT_ENCODING: "the answer cannot be decompressed",
    100: "the header of the answer is too large",  # CURLE_TOO_LARGE, which pycurl has no name for
}

#: What OpenSSL finds wrong with the certificate of a server (X509_verify_cert_error_string), and what we say.
_VERIFICATION = {
    "certificate has expired": "has expired",
    "certificate is not yet valid": "is not valid yet",
    "self-signed certificate in certificate chain": "comes of an authority that is not trusted",
    "unable to get local issuer certificate": "comes of an authority that is not trusted",
    "unable to get issuer certificate": "comes of an authority that is not trusted",
    "self-signed certificate": "is self-signed and not trusted",
}


def _verification(text: str) -> str:
    if match := re.search(r"(?:does not match|name matches) target [\w ]*'(.+)'", text):
        return f"the server's certificate is not for {match[1]}"
    for found, said in _VERIFICATION.items():
        if found in text:
            return f"the server's certificate {said}"
    if text == "SSL certificate verification failed":  # so libcurl calls the alert certificate_expired
        return _ALERTS["alert certificate expired"]
    return f"the server's certificate is not accepted: {_short(text)}"


#: How a handshake ends (OpenSSL's ssl_err.c), and what we say. Alerts are the server's words.
_ALERTS = {
    "alert certificate required": "the server asks for a client certificate",
    "alert unknown ca": "the server does not trust the authority of the client certificate",
    "alert certificate expired": "the server says that the client certificate has expired",
    "alert protocol version": "the server has no TLS 1.2 or later",
    "unsupported protocol": "the server has no TLS 1.2 or later",
    "wrong version number": "the server does not speak TLS; is it one of http?",
    "unrecognized name": "the server does not answer to that name",
}


def _handshake(text: str, target: Target) -> str:
    for found, said in _ALERTS.items():
        if found in text:
            return said
    refused = re.search(r"alert ((?:bad|unsupported) certificate|certificate (?:unknown|revoked)|access denied)", text)
    if refused:
        if target.cert_file:
            return f"the server does not accept the client certificate ({refused[1]})"
        return "the server asks for a client certificate"
    if "alert handshake failure" in text and not target.cert_file:  # TLS 1.2 has no alert of its own for it
        return "the server broke off the handshake; does it ask for a client certificate?"
    return _short(re.sub(r", errno \d+$", "", text))


def _guess(target: Target) -> str:
    """Returns what a server most often means that drops a connection with the request unread.

    With TLS 1.3 a client certificate is looked at after the handshake, and the alert can be lost with the connection.
    """
    if not target.url.startswith("https:"):
        return "does the server ask for TLS?"
    return f"does the server {'accept the' if target.cert_file else 'ask for a'} client certificate?"


def _short(text: str) -> str:
    return ascii(text.rpartition("::")[2])[1:-1][:200]
