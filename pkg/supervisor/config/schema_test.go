package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestSchemaIsAsTheKeyTableSays(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSchema(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "../../../etc/supervisord.schema.json", b.Bytes())
	for _, k := range keys {
		if k.is != nil && k.is.schema() == nil && shapes[k.is.kind()] == nil {
			t.Errorf("%s: the schema does not know what a %q is", k.name, k.is.kind())
		}
	}
}

// compiled is the schema as editors have it.
var compiled = sync.OnceValue(func() *jsonschema.Schema {
	var b bytes.Buffer
	WriteSchema(&b)
	text, err := jsonschema.UnmarshalJSON(&b)
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("supervisord.schema.json", text); err != nil {
		panic(err)
	}
	return c.MustCompile("supervisord.schema.json")
})

// refuses says why the schema does not accept a file.
func refuses(t *testing.T, text string) error {
	var top map[string]any
	if _, err := toml.Decode(text, &top); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return compiled().Validate(asJSON(top))
}

// asJSON is a value of TOML as JSON has it.
func asJSON(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return math.NaN()
	}
	is, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	return is
}

// An editor must not call wrong what is right: what Decode accepts, the schema does.
func TestSchemaAcceptsWhatIsRight(t *testing.T) {
	texts := map[string]string{"many services": string(services(20))}
	for _, pattern := range []string{"../../../etc/*.toml", "../../../etc/*/*.toml", "../../../examples/*/*.toml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}
	for name, text := range texts {
		if err := refuses(t, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefusesMistakes(t *testing.T) {
	for _, text := range []string{
		"foo = 1", "[services.a]", "[service.\"a b\"]", "[service.a]\nTYPE = \"exec\"", "[service.a.reload]\nbakes = \"1s\"", "[service.a]\nmemory_max = \"5M\"",
	} {
		if refuses(t, text) == nil {
			t.Errorf("it accepts %q", text)
		}
	}
}

// Values as people write them, right and wrong, for any key.
var values = []any{
	"", " ", "a", "api", "-", "--", "-/etc/a", "/", "/run", "/run/", "/run//a", "/run/../a", "/run/a.sock", "/run/..a", "/.", "relative.sock", "a/b", "@", "@api", "a\x00b", "\x00", "/a\x00b",
	"true", "false", true, false, int64(0), int64(1), int64(-1), int64(22), int64(64), int64(65), int64(255), int64(256), int64(1000), int64(1001), int64(65536), int64(1) << 40, int64(math.MaxInt64), 0.5, -3.7, 1e9,
	"0", "1", "5", "007", "0022", "22", "777", "0777", "1777", "8", "65535", "65536", "99999", "4294967294", "4294967295", "4294967296", "root", "nobody", "nogroup", "65534", "a$", "$a", "a b", "1a", strings.Repeat("a", 64), strings.Repeat("a", 65),
	"5s", "5 s", "5 seconds", "5seconds", "1 second", "5 Seconds", "5sec", "1min 30s", "1m30s", "1.5h", "1.h", ".5h", "1h 30", "2w", "3 days", "1ms", "1us", "1µs", "1usec", "1m1", "5x", "0s", "0.0s", "0", "00s", " 5s ", "\t5s", "infinity", "Infinity", "-5s", "+5s", "5e3s", "1s1s",
	"10M", "10m", "10MB", "10K", "1T", "10B", "M", "4K", "4096", "-1", "0x10", "1_000",
	"0%", "5%", "05%", "005%", "100%", "101%", "1000%", "%", "5 %", "5.5%", "-5%",
	"SIGTERM", "TERM", "term", "SIGterm", "15", "015", "64", "65", "SIGRTMIN", "RTMIN+3", "SIGRTMIN+30", "SIGRTMIN+31", "SIGRTMIN+03", "SIGRTMAX", "SIGRTMAX-1", "SIGRTMAX+1", "SIGRTMIN-1", "RTMIN+", "RTMIN+-3", "SIGSIGTERM", "FOO",
	"infinity:infinity", "1:2", "5s:infinity", "1K:1M", "1:", ":1", "infinity:", "1:2:3", "1h:2h",
	"8080", ":8080", "127.0.0.1:8080", "127.0.0.1", "127.0.0.01:80", "256.0.0.1:80", "[::1]:80", "::1", "::1:80", "[::1]", "localhost:80", "*:80", "0.0.0.0:80", "8{instance}", "127.0.0.1:808{instance}", "/run/{instance}.sock", "{instance}",
	"/bin/true", "/bin/sleep 1", "/bin/sh -c 'a b'", `a "b c"`, "a | b", "a > b", "a $b", `"a`, `''`, `'' a`, `''a`, `"" ''`, "a\nb", "a\tb", "sh -c '{instance}'", `"{instance}" a`, "'a\x00'", `a\b`, "#a", "!a",
	"exec", "notify", "simple", "boot", "on-failure", "refuse", "overlap", "info", "off", "both", "control-group", "EXEC",
	[]any{},
	[]any{"a"},
	[]any{""},
	[]any{"a", ""},
	[]any{"a", "{instance}"},
	[]any{"{instance}"},
	[]any{int64(1)},
	[]any{int64(143), "SIGUSR1"},
	[]any{int64(256)},
	[]any{"15"},
	[]any{"A=b"},
	[]any{"A="},
	[]any{"=b"},
	[]any{"1A=b"},
	[]any{"A=b", "B=\x00"},
	[]any{"a\x00"},
	[]any{true},
	[]any{[]any{}},
	[]any{"127.0.0.1:80", "/run/a"},
	[]any{"/run/../a"},
	[]any{"api"},
	[]any{"TZ"},
	[]any{"1TZ"},
	[]any{"T-Z"},
	[]any{"/etc/a", "-/etc/b"},
	[]any{"-"},
	map[string]any{},
	map[string]any{"A": "b"},
	map[string]any{"A": int64(1)},
	map[string]any{"1A": "b"},
	map[string]any{"A": "\x00"},
	map[string]any{"a-b": "c"},
}

// What a key takes, its schema takes, and the other way round.
func TestSchemaAndReaderAgree(t *testing.T) {
	for _, k := range keys {
		for _, v := range values {
			agreeOn(t, k, v)
		}
		for _, text := range []string{k.def, k.eg} {
			if text != "" {
				agreeOn(t, k, parsed(text))
			}
		}
	}
}

func FuzzSchema(f *testing.F) {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			f.Add(v, int64(0))
		case int64:
			f.Add("", v)
		}
	}
	f.Fuzz(func(t *testing.T, s string, n int64) {
		s = strings.ToValidUTF8(s, "")
		for _, k := range keys {
			for _, v := range []any{s, n, []any{s}, []any{"/bin/a", s}, map[string]any{s: "x"}, map[string]any{"A": s}} {
				agreeOn(t, k, v)
			}
		}
	})
}

func agreeOn(t *testing.T, k key, v any) {
	if k.is == nil || k.name == "include" {
		return
	}
	says := readAlone(k, v)
	err := schemaOf(k).Validate(asJSON(v))
	if (says == "") != (err == nil) && !beyondSchemas(says, v) {
		t.Errorf("%s = %q: the reader says %q, the schema %v", k.name, v, says, err)
	}
}

// readAlone reads a value that is all there is, and returns what is wrong with it.
func readAlone(k key, v any) string {
	l := newLoad(Options{Root: true})
	f := &file{load: l, name: "x.toml", places: places{}}
	l.config.Files = []string{"x.toml"}
	k.is.read(&target{m: &Manager{}, s: &socket{}, u: &service{}}, cursor{file: f, key: k.name, name: k.name, value: v, of: owner{kind: "service", name: "a"}})
	for _, p := range l.problems {
		if !p.Warning {
			return p.Message
		}
	}
	return ""
}

// beyondSchemas: whether this is wrong depends on more than the form of one value,
// or on what JSON does not have.
func beyondSchemas(says string, v any) bool {
	text, isText := v.(string)
	number, isFloat := v.(float64)
	all := fmt.Sprint(v)
	for _, rule := range []string{
		"longer than can be counted", "soft limit above", "is listed twice", // sums and comparisons
		"would serve them to all networks", "all instances run the same program",
		"does not begin with an IP address", "has a zone", "needs brackets", "has brackets around", // IPv6
	} {
		if strings.Contains(says, rule) {
			return true
		}
	}
	switch {
	case isText && strings.Contains(says, "out of range"), isText && strings.Contains(says, "no time at all") && strings.ContainsAny(text, "123456789"):
		return true
	case isFloat && number == math.Trunc(number): // JSON has but one kind of numbers
		return true
	case len(all) > 15 && strings.ContainsAny(all, "0123456789"): // more than a number has room for
		return true
	}
	listed := isText && slices.ContainsFunc(values, func(v any) bool { return v == any(text) })
	return strings.Contains(all, "{instance}") || !listed && strings.ContainsFunc(all, func(r rune) bool { return r > 0x7f || r == '\v' })
}

var alone = map[string]*jsonschema.Schema{}

// schemaOf is the part of the schema for a key.
func schemaOf(k key) *jsonschema.Schema {
	name := k.in + "." + k.name
	if alone[name] == nil {
		c := jsonschema.NewCompiler()
		if err := c.AddResource(name, asJSON(k.shape())); err != nil {
			panic(err)
		}
		c.DefaultDraft(jsonschema.Draft7)
		alone[name] = c.MustCompile(name)
	}
	return alone[name]
}
