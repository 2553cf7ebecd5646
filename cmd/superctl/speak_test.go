package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// hostile is what a service, a name or a file could hold to have a terminal do
// something: sequences, controls of both sets, bidi, zero width, tags, bytes
// that are no UTF-8.
var hostile = []string{
	"\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]52;c;cm0gLXJm\x07", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x1bP+q\x1b\\",
	"\u009b31m", "\u009d0;t\u009c", "\x9b31m", "a\bb\bc", "over\rwrite", "bell\a", "del\x7f", "nul\x00", "\v\f",
	"\u202etxt.exe", "\u2066iso\u2069", "zero\u200bwidth\u200d", "\ufeffbom", "\u00ad", "\U000e0041\U000e007f", "\u2028line\u2029",
	"\xff\xfe", "\xed\xa0\x80", "two\nlines", "tab\there", "\ue000private",
}

func TestPrintableLetsNothingThrough(t *testing.T) {
	for _, h := range hostile {
		mustBeHarmless(t, h, printable(h), "")
	}
	for text, want := range map[string]string{
		"\x1b[2J": `\x1b[2J`, "\u202e": `\u202e`, "\U000e0041": `\U000e0041`, "\u009b": `\x9b`, "a\nb\tc": `a\nb\tc`, "\xff": `\xff`,
		"plain": "plain", "Grüße, 世界 🙂": "Grüße, 世界 🙂", "a\u00a0b\u3000c": "a\u00a0b\u3000c", "\ufffd": "\ufffd",
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %q, not %q", text, got, want)
		}
	}
}

func TestLogTextKeepsColoursAlone(t *testing.T) {
	text := "\x1b[1;31mred\x1b[0m \x1b[2J\x1b[38:2::1:2:3mx\ttab\r"
	c := &console{color: true}
	if got, want := c.logText(text), painted("\x1b[1;31mred\x1b[0m "+`\x1b[2J`+"\x1b[38:2::1:2:3mx\ttab"+`\x0d`+"\x1b[m"); got != want {
		t.Errorf("with colours: %q, not %q", got, want)
	}
	c.color = false
	if got, want := c.logText(text), painted(`red \x1b[2Jx`+"\ttab"+`\x0d`); got != want {
		t.Errorf("without: %q, not %q", got, want)
	}
}

// mustBeHarmless looks at output as a terminal would get it.
func mustBeHarmless(t *testing.T, what, out, allowed string) {
	t.Helper()
	if !utf8.ValidString(out) {
		t.Errorf("%.60q: bytes that are no UTF-8 get out: %.200q", what, out)
	}
	for _, r := range out {
		if strings.ContainsRune(allowed, r) {
			continue
		}
		if unicode.Is(unicode.Cc, r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) {
			t.Errorf("%.60q: %U gets out: %.200q", what, r, out)
			return
		}
	}
}

// T20: whatever others have put into any text of any answer, no command lets it
// get to the terminal, on stdout or stderr, in words or as JSON.
func TestHostileTextStaysHarmless(t *testing.T) {
	all := strings.Join(hostile, " ")
	everyVerb(t, all)
	everyVerb(t, hostile[0]+strings.ReplaceAll(all, "/", "")) // may be the name of a file
}

func everyVerb(t *testing.T, h string) {
	dir := world(t, h)
	if _, stop, err := serve(dir); err != nil {
		t.Fatal(err)
	} else {
		defer stop()
	}
	wrong := filepath.Join(dir, "wrong.toml")
	if err := os.WriteFile(wrong, []byte("[service."+h+"]\n"+h+" = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{
		{"status"},
		{"status", "api"},
		{"status", "http.socket"},
		{"sockets"},
		{"sockets", "--try", "api"},
		{"sockets", "--try", h},
		{"start", "api"},
		{"stop", "api"},
		{"restart", "api"},
		{"reload", "api"},
		{"start", "api", "web"},
		{"stop", "api", "--no-block"},
		{"kill", "api"},
		{"reset-failed", "nope"},
		{"logs", "api"},
		{"logs"},
		{"daemon-reload"},
		{"version"},
		{"verify", wrong},
		{"verify", dir + "/" + strings.ReplaceAll(h, "\x00", "")},
		{"status", h},
		{h},
		{"status", "--" + h},
		{"kill", "-s", h, "api"},
		{"status", "--socket", h},
		{"logs", "--invocation", h},
		{"__complete", "reload", ""},
	} {
		for _, more := range [][]string{nil, {"-o", "json"}, {"--color", "always"}} {
			args := slices.Concat(line, more)
			out, errs := superctl(t, dir, args...)
			if more != nil && more[1] == "always" {
				out, errs = sgr().ReplaceAllString(out, ""), sgr().ReplaceAllString(errs, "")
			}
			mustBeHarmless(t, strings.Join(args, " ")+" stdout", out, "\n\t")
			mustBeHarmless(t, strings.Join(args, " ")+" stderr", errs, "\n\t")
		}
	}
}

// superctl runs without a process.
func superctl(t *testing.T, dir string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := map[string]string{"SUPERVISORD_SOCKET": filepath.Join(dir, config.ControlSocket)}
	run(context.Background(), args, newSession(&out, &errs, func(k string) string { return env[k] }))
	return out.String(), errs.String()
}

// world is a directory for a fake in which every text is h.
func world(t *testing.T, h string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "superctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	failure := &ipc.Error{Code: ipc.Failed, Message: "cannot do api: " + h, Notes: []string{h}, Hints: []string{h}, Output: []string{h}}
	st := ipc.Status{Time: asked, Notes: []string{h}, Degraded: []string{h}}
	for _, name := range []string{"api", "web", h} {
		st.Services = append(st.Services, ipc.UnitStatus{
			Name: name, ActiveState: h, SubState: h, Result: h, Since: &asked, Generation: 1, MainPID: 2, Command: h,
			Processes: []ipc.Process{{Role: h, Phase: h, Invocation: h}}, Sockets: []string{"http", h},
			Job: &ipc.Job{ID: h, Verb: h}, Queued: &ipc.Job{ID: h, Verb: h}, StatusText: h, LastExit: h, Note: h,
			Waiting: []string{h}, Hints: []string{h}, Output: []string{h},
		})
	}
	st.Sockets = []ipc.SocketUnit{
		{Name: "http", Services: []string{h}, Sockets: []ipc.Socket{{Address: h}, {Address: h, Error: h}}},
		{
			Name: h, Sockets: []ipc.Socket{{Address: h, Listening: true, Note: h}}, Unsteered: h,
			Holders: []ipc.SocketHolder{{Service: h, Role: h, PID: 1, Queues: []ipc.SocketQueue{{Address: h}}}},
		},
	}
	put(t, dir, "status.json", st)
	events := []ipc.Event{
		{Kind: "begun", Text: h},
		{Kind: "started", Text: h + " " + h},
		{Kind: "exited", PID: 5, Text: h},
		{Kind: "ready", Text: h},
		{Kind: "finished", Text: h, State: ipc.JobFailed, Error: failure},
	}
	for _, verb := range []string{"start", "restart", "reload"} {
		put(t, dir, verb+"-api.json", play{Events: events, Job: ipc.Job{State: ipc.JobFailed, Error: failure}})
	}
	put(t, dir, "start-web.json", play{Refused: failure})
	put(t, dir, "kill.json", map[string]any{"Error": failure})
	put(t, dir, "try-api.json", ipc.Tried{Unit: h, Role: h, Address: h, Status: h, Headers: []string{h}, Body: h + "\n" + h, More: true})
	put(t, dir, "daemon-reload.json", ipc.Reloaded{Added: []string{h}, Removed: []string{h}, Changed: []string{h}, Warnings: []string{h}})
	put(t, dir, "logs.json", ipc.LogLine{Type: "line", Unit: h, Text: h}, ipc.LogLine{Type: "line", Unit: "api", Text: h, Raw: []byte(h)},
		ipc.LogLine{Type: "lost", Unit: h, Lost: 1}, ipc.LogLine{Type: "error", Unit: h, Text: h})
	return dir
}

func put(t *testing.T, dir, name string, values ...any) {
	t.Helper()
	var b bytes.Buffer
	for _, v := range values {
		if err := json.NewEncoder(&b).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"short", 0, "short"}, {"short", 5, "short"}, {"shorter", 5, "shor…"}, {"世界世界", 5, "世界…"}, {"世界世界", 4, "世…"}, {"x", 1, "x"}, {"xy", 1, "…"},
	} {
		if got := cut(c.text, c.width); got != c.want {
			t.Errorf("cut(%q, %d) = %q, not %q", c.text, c.width, got, c.want)
		}
	}
}

func TestSizesAndTimesForPeople(t *testing.T) {
	for n, want := range map[uint64]string{1: "1B", 999: "999B", 1000: "1K", 1 << 20: "1.0M", 10480517: "10M", 42991616: "41M", 1 << 34: "16G", 1 << 44: "16.0T"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, not %s", n, got, want)
		}
	}
	for s, want := range map[float64]string{-3: "0s", 0.9: "0s", 61: "1m01s", 3720: "1h02m", 90000: "1d01h"} {
		if got := short(time.Duration(s * 1e9)); got != want {
			t.Errorf("short(%v) = %s, not %s", s, got, want)
		}
	}
}

func TestLossesAreTold(t *testing.T) {
	var errs bytes.Buffer
	s := newSession(&bytes.Buffer{}, &errs, func(string) string { return "" })
	for _, a := range []ipc.SocketAccount{{Address: ":80", Drops: 3}, {Address: ":81", Drops: 1}, {Address: ":82"}} {
		s.tellLosses(a)
	}
	if got, want := errs.String(), "note: :80 dropped 3 packets meanwhile; a client whose handshake it was tries again after a second\nnote: :81 dropped 1 packet meanwhile; a client whose handshake it was tries again after a second\n"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// On a narrow terminal a note leaves room for who gets what.
func TestSharesFitBesideANote(t *testing.T) {
	var out bytes.Buffer
	s := newSession(&out, &bytes.Buffer{}, func(string) string { return "" })
	s.out.width = 80
	queue := []ipc.SocketQueue{{Address: "127.0.0.1:18080", Limit: 4096}}
	s.showSockets([]ipc.SocketUnit{{
		Name: "http",
		Sockets: []ipc.Socket{
			{Address: "127.0.0.1:18080", Listening: true, Limit: 4096, Steered: true, Note: "the configuration has changed: the next start, reload or restart takes it"},
		},
		Holders: []ipc.SocketHolder{
			{Role: "main", PID: 1234567, Share: 66.67, Queues: queue},
			{Role: "main", Instance: 1, PID: 1234568, Share: 33.33, Queues: queue},
		},
	}}, nil)
	for _, want := range []string{"66.67%", "33.33%", "1234568", "the configuration"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s:\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
