package page

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInsertReplacesItsOwnBlock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const head, mark, tail = "a\n```\nother\n```\n", "<!-- made by go run x -->\n", "after\n```\nother\n```\n"
	for _, old := range []string{"", "one\n", "one\n\ntwo\n"} {
		write(head + mark + "```\n" + old + "```\n" + tail)
		if err := Insert(file, "go run x", "new\nlines\n"); err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(file)
		if want := head + mark + "```\nnew\nlines\n```\n" + tail; string(got) != want {
			t.Errorf("old block %q: got\n%s\nwant\n%s", old, got, want)
		}
	}
	if err := Insert(file, "go run y", ""); err == nil {
		t.Error("a page without the block is no error")
	}
	write(mark + "```\nnever ends\n")
	if err := Insert(file, "go run x", ""); err == nil {
		t.Error("a block without an end is no error")
	}
}
