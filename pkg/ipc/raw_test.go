package ipc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What is said to the server below HTTP's level.

// send sends bytes on a connection of its own and returns all that comes until
// the server hangs up.
func (h *house) send(t *testing.T, request string) string {
	t.Helper()
	c := h.raw(t)
	defer c.Close()
	io.WriteString(c, request) // the server may hang up before all is said
	answer, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%.80q: the server does not hang up: %v", request, err)
	}
	return string(answer)
}

var statusLine = regexp.MustCompile(`HTTP/1\.1 [0-9]`)

// statusOf is the status of an answer, as in "HTTP/1.1 400 Bad Request".
func statusOf(answer string) int {
	f := strings.Fields(answer)
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }

// closing asks the server to hang up after the answer.
func closing(request string) string {
	return strings.Replace(request, "Host: x\r\n", "Host: x\r\nConnection: close\r\n", 1)
}

// T15: what makes two readers differ about where a request ends, and what turns
// the connection into something else, is refused, and nothing that follows on
// the connection is read.
func TestNothingButPlainHTTP(t *testing.T) {
	const smuggled = "POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 41\r\n\r\n" + `{"unit":"api","signal":9,"whom":"main"}  `
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"length and chunks":   {"POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"chunks":              {"POST /v1/kill HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"odd chunks":          {"POST /v1/kill HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
		"two lengths":         {"POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}", 400},
		"a length below zero": {"POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}", 400},
		"an upgrade":          {"GET /v1/info HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 400},
		"a tunnel":            {"CONNECT /v1/info HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		"a tunnel elsewhere":  {"CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1:22\r\n\r\n", 405},
		"a proxy's request":   {"GET http://other/v1/info HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"HTTP/1.0":            {"GET /v1/info HTTP/1.0\r\n\r\n", 505},
		"no Host":             {"GET /v1/info HTTP/1.1\r\n\r\n", 400},
		"HTTP/2":              {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		"options of all":      {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		"a method unheard of": {"FETCH /v1/info HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		"HEAD":                {"HEAD /v1/info HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		"a short Request-Id":  {"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nRequest-Id: 17\r\nContent-Length: 2\r\n\r\n{}", 400},
		"PUT":                 {"PUT /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 405},
		"a GET with a body":   {"GET /v1/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400},
		"a promise asked for": {"POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", 417},
		"a bare newline":      {"GET /v1/info HTTP/1.1\nHost: x\n\n", 200}, // RFC 9112, 2.2: may be taken
		"a folded header":     {"GET /v1/info HTTP/1.1\r\nHost: x\r\n y: z\r\n\r\n", 400},
		"a space before :":    {"GET /v1/info HTTP/1.1\r\nHost : x\r\n\r\n", 400},
		"a NUL":               {"GET /v1/info HTTP/1.1\r\nHost: x\r\nY: a\x00b\r\n\r\n", 400},
		"a tls client":        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		"nothing sensible":    {"\r\n\r\n\x00\xff\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			h := serve(t, street(t), f)
			request := c.request
			if c.status == 200 {
				request = strings.Replace(request, "\n\n", "\nConnection: close\n\n", 1)
			}
			answer := h.send(t, request+smuggled)
			if got := statusOf(answer); got != c.status {
				t.Errorf("%q: %s", c.request, answer)
			}
			if len(f.acts()) > 0 {
				t.Errorf("what came after it on the connection was done: %s", f.acts())
			}
			if len(statusLine.FindAllString(answer, -1)) > 1 {
				t.Errorf("what came after it on the connection was answered: %s", answer)
			}
		})
	}
}

// An error that is ours closes the connection as well.
func TestNothingFollowsAnError(t *testing.T) {
	for _, first := range []string{get("/nowhere"), get("/v1/kill"), post("/v1/kill", `{"unit":""}`), get("/v1/status?n=1"), get("/v1/status?unit=%zz")} {
		f := &fake{}
		h := serve(t, street(t), f)
		answer := h.send(t, first+post("/v1/reset-failed", `{"unit":"api"}`))
		if !strings.Contains(answer, "Connection: close") || len(f.acts()) > 0 {
			t.Errorf("%q: %s, and it did %q", first, answer, f.acts())
		}
	}
}

// Several requests on one connection are answered one after the other.
func TestConnectionsAreKept(t *testing.T) {
	f := &fake{}
	h := serve(t, street(t), f)
	h.send(t, post("/v1/reset-failed", `{"unit":"a"}`)+post("/v1/reset-failed", `{"unit":"b"}`)+closing(get("/v1/info")))
	if got := fmt.Sprint(f.acts()); got != "[reset-failed a reset-failed b]" {
		t.Errorf("it did %s", got)
	}
}

// T14: every one of these is refused before anything happens.
func TestHostileRequests(t *testing.T) {
	deep := strings.Repeat("[", 10_000)
	long := strings.Repeat("a", 64)
	for _, r := range []string{
		post("/v1/jobs", ``),
		post("/v1/jobs", `null`),
		post("/v1/jobs", `[]`),
		post("/v1/jobs", `"reload"`),
		post("/v1/jobs", `{`),
		post("/v1/jobs", `{"verb":"reload"}`),
		post("/v1/jobs", `{"verb":"reload","unit":null}`),
		post("/v1/jobs", `{"verb":"reload","unit":["api"]}`),
		post("/v1/jobs", `{"verb":"reload","unit":"api","force":true}`),
		post("/v1/jobs", `{"verb":"reload","unit":"api","unit":"api"}`),
		post("/v1/jobs", `{"verb":"reload","unit":"api","UNIT":"other"}`),
		post("/v1/jobs", `{"verb":"reload","Unit":"api"}`),
		post("/v1/jobs", "{\"verb\":\"reload\",\"unit\":\"api\"}{}"),
		post("/v1/jobs", "{\"verb\":\"reload\",\"unit\":\"api\"} x"),
		post("/v1/jobs", "{\"verb\":\"reload\",\"unit\":\"a\xffpi\"}"),
		post("/v1/jobs", "\xef\xbb\xbf{\"verb\":\"reload\",\"unit\":\"api\"}"),
		post("/v1/jobs", "{\"verb\":\"reload\",\"\u017fnit\":\"api\"}"),
		post("/v1/jobs", `{"verb":"reload","unit":`+deep+`}`),
		post("/v1/jobs", `{"verb":"Reload","unit":"api"}`),
		post("/v1/jobs", `{"verb":"exec","unit":"api"}`),
		post("/v1/jobs?unit=api", `{"verb":"reload","unit":"api"}`),
		post("/v1/jobs", `{"verb":"reload","unit":"../../etc/passwd"}`),
		post("/v1/jobs", `{"verb":"reload","unit":"-rf"}`),
		post("/v1/jobs", `{"verb":"reload","unit":"a/b"}`),
		post("/v1/jobs", `{"verb":"reload","unit":"a\u0000b"}`),
		post("/v1/jobs", `{"verb":"reload","unit":"`+long+`"}`),
		post("/v1/kill", `{"unit":"api","signal":0,"whom":"all"}`),
		post("/v1/kill", `{"unit":"api","signal":65,"whom":"all"}`),
		post("/v1/kill", `{"unit":"api","signal":-9,"whom":"all"}`),
		post("/v1/kill", `{"unit":"api","signal":9.5,"whom":"all"}`),
		post("/v1/kill", `{"unit":"api","signal":1e300,"whom":"all"}`),
		post("/v1/kill", `{"unit":"api","signal":99999999999999999999,"whom":"all"}`),
		post("/v1/kill", `{"unit":"api","signal":"9","whom":"all"}`),
		post("/v1/kill", `{"unit":"api","signal":9,"whom":"everybody"}`),
		post("/v1/kill", `{"unit":"api","signal":9}`),
		post("/v1/try", `{"unit":"api","whom":"old"}`),
		post("/v1/try", `{"unit":"api","instance":-1}`),
		post("/v1/try", `{"unit":"api","instance":1000}`),
		post("/v1/try", `{"unit":"api","path":"healthz"}`),
		post("/v1/try", `{"unit":"api","path":"/ HTTP/1.1\r\nX: y"}`),
		post("/v1/try", `{"unit":"api","path":"/a\nX: y"}`),
		post("/v1/try", `{"unit":"api","path":"/a\u0000"}`),
		post("/v1/try", `{"unit":"api","path":"/\u00e9"}`),
		post("/v1/try", `{"unit":"api","path":"/`+strings.Repeat("a", 1024)+`"}`),
		post("/v1/try", `{"unit":"api","address":"`+strings.Repeat("a", 1025)+`"}`),
		post("/v1/try", `{"unit":"api","url":"http://example.com/"}`),
		post("/v1/try", `{"whom":"next"}`),
		post("/v1/daemon-reload", `{"file":"/etc/shadow"}`),
		get("/v1/status?unit=.."),
		get("/v1/status?unit="),
		get("/v1/status?file=/etc/shadow"),
		get("/v1/logs?n=-1"),
		get("/v1/logs?n=1e12"),
		get("/v1/logs?n=1000000000000"),
		get("/v1/logs?n=1&n=2"),
		get("/v1/logs?follow=yes"),
		get("/v1/logs?generation=4294967296"),
		get("/v1/logs?invocation=../../x"),
		get("/v1/jobs/x"),
		get("/v1/jobs/e-99999999999999999999999"),
		get("/v1/jobs/7/events?wait=forever"),
		get("/v1/jobs/7/events?since=7"),
		get("/v1/events?since=e-99999999999999999999"),
	} {
		f := &fake{info: Info{Epoch: "e"}}
		h := serve(t, street(t), f)
		if answer := h.send(t, r); statusOf(answer) != 400 || !strings.Contains(answer, `"code":"usage"`) {
			t.Errorf("%.120q: %s", r, answer)
		}
		if len(f.acts()) > 0 {
			t.Errorf("%.120q: it did %q", r, f.acts())
		}
	}
}
