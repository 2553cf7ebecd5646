// Package docs is documentation. Its tests hold it to what is so: links lead
// somewhere, configurations are ones, and the tutorial works as it is pasted.
package docs

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A block is a piece of a page that is not prose: what a fence encloses.
type block struct {
	page string
	line int
	lang string // after the fence
	name string // the file that it is to be saved as
	mark string // in a comment, on the line above
	text string
}

// pages are all that is documentation.
func pages(t *testing.T) []string {
	t.Helper()
	found := []string{"../README.md"}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// blocks are those of a page, in order.
func blocks(t *testing.T, page string) (found []block) {
	t.Helper()
	f, err := os.Open(page)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var open *block
	var last string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			lang, name, _ := strings.Cut(fence, " ")
			open = &block{page: page, line: n, lang: lang, name: name, mark: comment(last)}
		case isFence:
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
		last = line
	}
	if open != nil {
		t.Errorf("%s:%d: a block does not end", page, open.line)
	}
	return found
}

func comment(line string) string {
	text, ok := strings.CutPrefix(line, "<!-- ")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(text, " -->")
}

var link = regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if m[1] == "" || strings.Contains(m[1], "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(page), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			} else if m[2] != "" && !hasHeading(t, target, m[2]) {
				t.Errorf("%s: %s has no heading %s", page, m[1], m[2])
			}
		}
	}
}

// hasHeading knows a heading by the anchor that it gets on a web page.
func hasHeading(t *testing.T, page, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	drop := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(string(text)) {
		title := strings.TrimSpace(strings.TrimLeft(line, "#"))
		if strings.HasPrefix(line, "#") && "#"+strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(title), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// Two commands are all that a fresh machine with Go needs: one runs the demo, one all
// tests, which is the one that .ci/run calls.
func TestReadmeHasTheTwoCommands(t *testing.T) {
	text, err := os.ReadFile("../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	const tests = "go test ./...\n"
	if !strings.Contains(string(text), "\t"+tests) {
		t.Errorf(".ci/run does not call %q", tests)
	}
	missing := map[string]bool{"go run ./cmd/supervisord --demo\n": true, tests: true}
	for _, b := range blocks(t, "../README.md") {
		delete(missing, b.text)
	}
	for command := range missing {
		t.Errorf("README does not show %q", command)
	}
}
