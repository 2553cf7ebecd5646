package ipc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestDecode(t *testing.T) {
	nested := func(n int) string {
		return `{"whom":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
	}
	for text, want := range map[string]string{
		` {"unit":"api","signal":9,"whom":"main"} `: "",
		`{}`:                                 "",
		``:                                   "it is not a JSON object",
		`null`:                               "it is not a JSON object",
		`7`:                                  "it is not a JSON object",
		`[{}]`:                               "it is not a JSON object",
		`{"unit"`:                            "it is not JSON",
		`{"unit":"api"`:                      "it is not JSON",
		`{"unit":"api",}`:                    "it is not JSON",
		`{"unit":01}`:                        "it is not JSON",
		`{"unit":'a'}`:                       "it is not JSON",
		`{unit:1}`:                           "it is not JSON",
		`{"unit":"a"}{"unit":"b"}`:           "there is something after the object",
		`{"unit":"a"}]`:                      "there is something after the object",
		`{"unit":"a","unit":"b"}`:            `field "unit" is there twice`,
		`{"unit":"a","UNIT":"b"}`:            `no field is called "UNIT"`,
		`{"unit":"a","un\u0131t":1}`:         `no field is called "unıt"`,
		`{"\u017fignal":9}`:                  `no field is called "ſignal"`,
		`{"":1}`:                             `no field is called ""`,
		`{"a/b":1}`:                          `no field is called "a/b"`,
		`{"path":"/etc/shadow"}`:             `unknown field "path"`,
		`{"unit":1}`:                         `field "unit" cannot be a number`,
		`{"signal":"9"}`:                     `field "signal" cannot be a string`,
		`{"signal":1e99}`:                    `field "signal" cannot be a number 1e99`,
		`{"signal":{"signal":1,"signal":2}}`: `field "signal" is there twice`,
		"{\"unit\":\"\xff\"}":                `it is not UTF-8`,
		nested(maxDepth):                     `field "whom" cannot be an array`,
		nested(maxDepth + 1):                 fmt.Sprintf("it is nested deeper than %d", maxDepth),
	} {
		got := ""
		if err := decode([]byte(text), new(KillRequest)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.60q: %q, not %q", text, got, want)
		}
	}
}

// Whatever is let through is what it seems: it is one object, written in one way
// only, and writing it again gives the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"unit":"api","signal":9,"whom":"main"}`,
		`{"verb":"reload","unit":"api"}`,
		`{"unit":"a","UNIT":"b"}`, `{"unit":"a","unit":"b"}`, `{}{}`, `{"a":[[[[{}]]]]}`, "{\"\u017fignal\":1}", `{"signal":1e5}`, "\xef\xbb\xbf{}", `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, v := range []interface{ check() error }{new(JobRequest), new(KillRequest), new(UnitRequest)} {
			if decode(text, v) != nil {
				continue
			}
			if !utf8.Valid(text) || !json.Valid(text) {
				t.Fatalf("%q is no JSON", text)
			}
			var fields map[string]any
			if err := json.Unmarshal(text, &fields); err != nil {
				t.Fatal(err)
			}
			known := map[string]bool{}
			for i := range reflect.TypeOf(v).Elem().NumField() {
				known[reflect.TypeOf(v).Elem().Field(i).Tag.Get("json")] = true
			}
			for name := range fields {
				if !known[name] {
					t.Fatalf("%q: field %q is not known", text, name)
				}
			}
			if v.check() != nil {
				continue
			}
			again, err := Encode(v)
			if err != nil {
				t.Fatal(err)
			}
			w := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := decode(again, w); err != nil || !reflect.DeepEqual(v, w) {
				t.Fatalf("%q is %s, and that is %v: %v", text, again, w, err)
			}
		}
	})
}

// T20: nothing that a terminal would obey is in what is sent, and nothing is lost
// by that.
func TestEncodeIsSafeToLookAt(t *testing.T) {
	for _, text := range hostile {
		for _, encode := range []func(any) ([]byte, error){Encode, EncodeIndent} {
			got, err := encode(UnitStatus{StatusText: text, Output: []string{text}})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range string(got) {
				if r != '\n' && Hidden(r) {
					t.Errorf("%q: %U is in %q", text, r, got)
				}
			}
			var back UnitStatus
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			if want := strings.ToValidUTF8(text, "\ufffd"); back.StatusText != want && utf8.ValidString(text) {
				t.Errorf("%q came back as %q", text, back.StatusText)
			}
		}
	}
	if line, err := Encode(map[string]string{"a": "x\ny"}); err != nil || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("%q, %v", line, err)
	}
}

var hostile = []string{
	"\x1b[2J\x1b]8;;http://evil\x07click\x1b]8;;\x07", "\x1b]52;c;cm0gLXJm\x07", "\x1bP+q\x1b\\", "\u009b31m\u0085", "\x00\x7f\b\r\v\f",
	"\u202e\u2066\u061c\ufeff\u200b\u200d\u00ad", "\U000e0041\U000e007f", "\u2028\u2029", "\xff\xfe\x9b", "a\nb\tc", "\U0010fffd\ue000\ufffe",
}

// A list that is empty is one: programs that read answers need no other case. And
// who is asked keeps what it has as it is.
func TestNoListIsNull(t *testing.T) {
	shared := Status{Services: []UnitStatus{{}}, Sockets: []SocketUnit{{}}}
	for _, v := range []any{Info{}, Status{}, shared, []SocketUnit(nil), []SocketUnit{{}}, History{}, History{Records: []Record{{}}}, Reloaded{}, Job{}, Event{}, LogLine{}, Error{}} {
		text, err := Encode(v)
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("%T: %s (%v)", v, text, err)
		}
	}
	if shared.Sockets[0].Sockets != nil {
		t.Error("it has written to what it was to encode")
	}
}

func TestHidden(t *testing.T) {
	for _, r := range "\x00\x07\x08\t\n\x0d\x1b\x7f\u0080\u009b\u00ad\u061c\u200b\u202e\u2028\u2029\u2066\ufeff\ufff9\U000e0041\ue000" {
		if !Hidden(r) {
			t.Errorf("%U is shown", r)
		}
	}
	for _, r := range " aé日~\u0301\ufffd😀" {
		if Hidden(r) {
			t.Errorf("%U is hidden", r)
		}
	}
}

// T16: no field of a request is a path, and each is one that the checks know.
func TestRequestsNameNoPaths(t *testing.T) {
	var got []string
	for _, v := range []any{JobRequest{}, UnitRequest{}, KillRequest{}, LogRequest{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			got = append(got, typ.Name()+"."+typ.Field(i).Name)
		}
	}
	want := []string{
		"JobRequest.Verb", "JobRequest.Unit", "JobRequest.Size", "JobRequest.RequestID", "UnitRequest.Unit", "KillRequest.Unit", "KillRequest.Signal", "KillRequest.Whom", "KillRequest.RequestID",
		"LogRequest.Units", "LogRequest.N", "LogRequest.Follow", "LogRequest.Generation", "LogRequest.Invocation", "LogRequest.Since", "LogRequest.Until",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a request has another field: is it a path that supervisord opens? Then not so. Is it checked?\n%s", diff)
	}
}

func TestEveryCodeHasAMeaning(t *testing.T) {
	seen := map[Code]bool{}
	for _, m := range Codes {
		if seen[m.Code] || m.Text == "" || m.Exit < 1 || m.Exit > 7 {
			t.Errorf("%+v", m)
		}
		seen[m.Code] = true
	}
	if got := Code("of a newer server").Meaning().Exit; got != 1 {
		t.Errorf("an unknown code exits with %d", got)
	}
}
