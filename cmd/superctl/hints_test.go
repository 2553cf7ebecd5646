package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What tells somebody to run superctl ends with the command, as it is to be typed:
// "to try again: superctl start api". Texts of the repository are looked at, with X for
// what is filled in.
func TestAdviceEndsWithItsCommand(t *testing.T) {
	commands := strings.Join(commandNames(newRoot(newSession(io.Discard, io.Discard, func(string) string { return "" }))), "|")
	names := regexp.MustCompile(`\bsuperctl (?:` + commands + `)\b`)
	ends := regexp.MustCompile(`^(?:.*: )?superctl (?:` + commands + `)(?: (?:--[a-z-]+(?:=[a-z]+)?|X(?:\.socket)?|%[a-z.0-9]+|api|4))*$`)
	seen := 0
	for _, file := range sources(t) {
		for text, at := range texts(t, file) {
			if !names.MatchString(text) || strings.ContainsAny(text, "\n`") {
				continue // an explanation
			}
			if seen++; !ends.MatchString(text) {
				t.Errorf("%s: %q does not end with its command", at, text)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d texts name a command", seen)
	}
}

// sources are the files that can tell somebody something. The metrics' help is prose.
func sources(t *testing.T) (files []string) {
	root := filepath.Join("..", "..")
	for _, dir := range []string{"cmd", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && filepath.Base(filepath.Dir(path)) != "metrics" {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// texts are the strings of a file, joined where it joins them, and where they are.
func texts(t *testing.T, file string) map[string]token.Position {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]token.Position{}
	ast.Inspect(f, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := joined(e)
		if ok {
			all[text] = set.Position(e.Pos())
		}
		return !ok
	})
	return all
}

// joined is the text of a literal or of a sum; ok: it is one of these.
func joined(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, e.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		left, isLeft := joined(e.X)
		right, isRight := joined(e.Y)
		if !isLeft {
			left = "X"
		}
		if !isRight {
			right = "X"
		}
		return left + right, e.Op == token.ADD && (isLeft || isRight)
	}
	return "", false
}
