package ipc

import (
	"net/http"
	"net/url"
)

// plainHTTP refuses all that net/http takes beyond the little that we speak:
// HTTP/1.1, GET and POST, and a body whose length is said. A chunked body is
// refused altogether, since net/http hides a Content-Length beside it, and two
// readers that differ about a request's end are how requests are smuggled.
func plainHTTP(r *http.Request) error {
	no := func(status int, why string) error { return &refusal{status, usage("%s", why)} }
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return no(http.StatusHTTPVersionNotSupported, "only HTTP/1.1 is spoken here")
	case r.Method != "GET" && r.Method != "POST":
		return no(http.StatusMethodNotAllowed, "only GET and POST are spoken here")
	case len(r.TransferEncoding) > 0:
		return no(http.StatusBadRequest, "a request must say its Content-Length")
	case r.Header.Get("Upgrade") != "":
		return no(http.StatusBadRequest, "there is nothing to upgrade to")
	case r.URL.Host != "" || r.URL.RawPath != "":
		return no(http.StatusBadRequest, "the target of a request must be a plain path")
	case r.Header.Get("Expect") != "":
		return no(http.StatusExpectationFailed, "nothing is promised before a request is read")
	}
	return nil
}

// queryOf is the query, which net/http would read leniently.
func queryOf(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, usage("cannot read the query: %v", err)
	}
	return q, nil
}
