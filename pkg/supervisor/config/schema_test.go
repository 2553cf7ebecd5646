package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestSchemaIsAsTheKeyTableSays(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSchema(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "../../../etc/supervisord.schema.json", b.Bytes())
	for _, k := range keys {
		if k.is == nil {
			continue
		}
		if name := k.is.kind(); shapes[name] == nil && !strings.Contains(name, " | ") {
			t.Errorf("%s: the schema does not know what a %q is", k.name, name)
		}
	}
}

// An editor must not call wrong what is right: what Decode accepts, the schema does.
func TestSchemaAcceptsWhatIsRight(t *testing.T) {
	var b bytes.Buffer
	WriteSchema(&b)
	var s map[string]any
	if err := json.Unmarshal(b.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
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
	for _, k := range keys {
		for i, value := range []string{k.def, k.eg} {
			if value == "" {
				continue
			}
			texts[fmt.Sprint(k.in, ".", k.name, i)] = "[" + strings.Replace(within(k.in), "NAME", "a", 1) + "]\n" + k.name + " = " + value + "\n"
			if k.in == "" {
				texts[k.name] = k.name + " = " + value + "\n"
			}
		}
	}
	delete(texts, ".include0")
	delete(texts, ".include1")
	for name, text := range texts {
		var top map[string]any
		if _, err := toml.Decode(text, &top); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if why := refuses(s, top); why != "" {
			t.Errorf("%s: %s", name, why)
		}
	}
}

func TestSchemaRefusesMistakes(t *testing.T) {
	var b bytes.Buffer
	WriteSchema(&b)
	var s map[string]any
	json.Unmarshal(b.Bytes(), &s)
	for _, text := range []string{
		"foo = 1", "[services.a]", "[service.\"a b\"]", "[service.a]\nTYPE = \"exec\"", "[service.a]\ntype = \"notfy\"", "[service.a]\nrestart_sec = 5",
		"[service.a]\nrestart_sec = \"5\"", "[service.a]\numask = 22", "[socket.a]\nlisten_stream = \"8080\"", "[service.a.reload]\nbakes = \"1s\"",
		"[service.a]\ntimeout_stop_sec = \"forever\"", "[service.a]\nlimit_nofile = \"many\"", "[service.a]\nsockets = [1]", "[service.a]\nmemory_max = \"5M\"",
	} {
		var top map[string]any
		if _, err := toml.Decode(text, &top); err != nil {
			t.Fatal(err)
		}
		if refuses(s, top) == "" {
			t.Errorf("it accepts %q", text)
		}
	}
}

// refuses says why a schema does not accept a value: as much of JSON Schema as
// is used here.
func refuses(s map[string]any, v any) string {
	if choices, ok := s["anyOf"].([]any); ok {
		var why []string
		for _, one := range choices {
			w := refuses(one.(map[string]any), v)
			if w == "" {
				return ""
			}
			why = append(why, w)
		}
		return strings.Join(why, ", and ")
	}
	switch v := v.(type) {
	case map[string]any:
		return refusesTable(s, v)
	case []any:
		return refusesList(s, v)
	case string:
		if enum, ok := s["enum"].([]any); ok && !strings.Contains(fmt.Sprintf("%q", enum), fmt.Sprintf("%q", v)) {
			return fmt.Sprintf("%q is none of %q", v, enum)
		}
		if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
			return fmt.Sprintf("%q does not match %s", v, pattern)
		}
		return wants(s, "string")
	case bool:
		return wants(s, "boolean")
	case int64:
		if least, ok := s["minimum"].(float64); ok && float64(v) < least {
			return fmt.Sprint(v, " is too small")
		}
		if most, ok := s["maximum"].(float64); ok && float64(v) > most {
			return fmt.Sprint(v, " is too large")
		}
		return wants(s, "integer")
	}
	return fmt.Sprintf("%T is not expected anywhere", v)
}

func wants(s map[string]any, kind string) string {
	if s["type"] != kind {
		return fmt.Sprintf("%v was expected, not %s", s["type"], kind)
	}
	return ""
}

func refusesList(s map[string]any, list []any) string {
	if why := wants(s, "array"); why != "" {
		return why
	}
	for _, v := range list {
		if why := refuses(s["items"].(map[string]any), v); why != "" {
			return why
		}
	}
	return ""
}

func refusesTable(s map[string]any, table map[string]any) string {
	if why := wants(s, "object"); why != "" {
		return why
	}
	known, _ := s["properties"].(map[string]any)
	patterns, _ := s["patternProperties"].(map[string]any)
	for name, v := range table {
		one, ok := known[name].(map[string]any)
		for pattern, of := range patterns {
			if regexp.MustCompile(pattern).MatchString(name) {
				one, ok = of.(map[string]any), true
			}
		}
		if !ok {
			if one, ok = s["additionalProperties"].(map[string]any); !ok {
				return name + " is not known"
			}
		}
		if why := refuses(one, v); why != "" {
			return name + ": " + why
		}
	}
	return ""
}
