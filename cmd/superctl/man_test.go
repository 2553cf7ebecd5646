package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// TestManPages: superctl(1), and a page for each command, are made of what it is.
func TestManPages(t *testing.T) {
	dir := filepath.Join("..", "..", "man")
	pages := manPages(t)
	if *update {
		writePages(t, dir, pages)
		return
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s\ngo generate ./cmd/superctl writes it", name, err, diff)
		}
	}
	for _, name := range stored(dir) {
		if pages[name] == "" {
			t.Errorf("there is a page %s, and no such command", name)
		}
	}
}

// stored are the pages that there are.
func stored(dir string) (names []string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "superctl*.1"))
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

func writePages(t *testing.T, dir string, pages map[string]string) {
	for _, name := range stored(dir) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Error(err)
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// manPages are the pages by their file names.
func manPages(t *testing.T) map[string]string {
	root := newRoot(newSession(io.Discard, io.Discard, func(string) string { return "" }))
	root.InitDefaultHelpFlag()
	pages := map[string]string{"superctl.1": manPage(t, root)}
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			c.InitDefaultHelpFlag()
			pages["superctl-"+c.Name()+".1"] = manPage(t, c)
		}
	}
	return pages
}

func manPage(t *testing.T, c *cobra.Command) string {
	written := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) // not the day on which somebody generates it
	header := &doc.GenManHeader{
		Title: strings.ToUpper(strings.ReplaceAll(c.CommandPath(), " ", "-")), Section: "1",
		Date: &written, Source: "supervisord", Manual: "supervisord",
	}
	var b bytes.Buffer
	if err := doc.GenMan(c, header, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
