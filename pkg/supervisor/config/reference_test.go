package config

import (
	"bytes"
	"flag"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/man/roff"
)

var update = flag.Bool("update", false, "write the files that are generated")

// golden compares with a file, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not what the code says (-update writes it): %s", path, d)
	}
}

//go:generate go test -count=1 -run "TestGeneratedFiles|TestSchemaIsAs" . -update

func TestGeneratedFilesAreAsTheKeyTableSays(t *testing.T) {
	for path, write := range map[string]func(io.Writer) error{
		"../../../docs/reference/configuration.md": WriteReference,
		"../../../etc/supervisord.toml":            WriteSample,
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, path, b.Bytes())
	}
}

// supervisord.toml(5) is the reference, as man shows it.
func TestGeneratedFilesIncludeTheManPage(t *testing.T) {
	var b strings.Builder
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	text := "## Description\n\n" + b.String() + "\n## See also\n\n`supervisord`(8), `superctl`(1)\n"
	page := roff.Page{Name: "supervisord.toml", Section: 5, Says: "configuration of supervisord"}
	golden(t, "../../../man/supervisord.toml.5", []byte(page.Of(text)))
}

// The sample is read by somebody whose first contact it is: it is right as it is,
// and each line of it can be uncommented.
func TestSampleIsRightAlsoUncommented(t *testing.T) {
	var b bytes.Buffer
	WriteSample(&b)
	o := Options{Root: true}
	if _, problems := Decode("supervisord.toml", b.Bytes(), o); len(problems) > 0 {
		t.Errorf("as it is: %v", problems)
	}
	all := regexp.MustCompile(`(?m)^# ([a-z_0-9]+ = )`).ReplaceAllString(b.String(), "$1")
	_, problems := Decode("supervisord.toml", []byte(all), o)
	for _, p := range problems {
		if p.Key != "include" && p.Key != "service.api.remain_after_exit" {
			t.Errorf("uncommented: %v", p)
		}
	}
	for _, k := range keys {
		if k.is != nil && !strings.Contains(all, "\n"+k.name+" = ") && k.eg+k.def != "" {
			t.Errorf("%s is not in the sample", k.name)
		}
	}
}

func TestKeyTable(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range keys {
		id := k.in + "." + k.name
		switch {
		case seen[id]:
			t.Errorf("%s is there twice", id)
		case k.says == "" || !strings.HasSuffix(k.says, "."):
			t.Errorf("%s says nothing, or has no full stop", id)
		case k.is != nil && k.def != "" && k.when != "":
			t.Errorf("%s has two defaults", id)
		case k.is == nil && k.def+k.when+k.eg != "":
			t.Errorf("%s has a default, but is not in this version", id)
		}
		seen[id] = true
		for _, value := range []string{k.def, k.eg} {
			if value != "" && parsed(value) == nil {
				t.Errorf("%s: %s is not TOML", id, value)
			}
		}
	}
}
