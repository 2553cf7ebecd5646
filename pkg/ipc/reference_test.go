package ipc

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

//go:generate go test -count=1 -run TestReference . -update

var update = flag.Bool("update", false, "write docs/reference/rpc.md")

const (
	reference  = "../../docs/reference/rpc.md"
	documented = "/run/supervisord/control.sock"
)

// The reference's lists are those of the code, and its examples do what it says.
func TestReference(t *testing.T) {
	before, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	page := between(string(before), "routes", routesTable())
	page = between(page, "objects", objectTables(t))
	if _, err := exec.LookPath("curl"); err != nil {
		t.Logf("needs curl: the examples are not run: %v", err)
	} else {
		page = withAnswers(t, page)
	}
	if *update {
		if err := os.WriteFile(reference, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(before), page); diff != "" {
		t.Errorf("%s is not what it would be; go generate ./pkg/ipc\n%s", reference, diff)
	}
}

// between replaces what is between the marks of a page.
func between(page, mark, text string) string {
	begin := "<!-- " + mark + " -->\n"
	head, rest, ok := strings.Cut(page, begin)
	_, tail, ended := strings.Cut(rest, "<!-- end -->")
	if !ok || !ended {
		panic("the page has no mark " + mark)
	}
	return head + begin + text + "\n<!-- end -->" + tail
}

func routesTable() string {
	var b strings.Builder
	b.WriteString("\n| | path | role | |\n|---|---|---|---|\n")
	for _, r := range Routes {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", r.Method, r.Path, r.Role, r.About)
	}
	b.WriteString("\nA caller needs the role, or a higher one: read, act, admin. In this version who has one\nhas all.\n")
	return b.String()
}

// objectTables is the fields of all that travels, with the comments of wire.go
// and error.go.
func objectTables(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, file := range []string{"wire.go", "error.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
				objectTable(&b, g)
			}
		}
	}
	return b.String()
}

func objectTable(b *strings.Builder, g *ast.GenDecl) {
	spec := g.Specs[0].(*ast.TypeSpec)
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	var rows []string
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			return // it does not travel
		}
		name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		if name != "-" {
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", name, kind(f.Type), strings.TrimSpace(strings.ReplaceAll(f.Comment.Text(), "\n", " "))))
		}
	}
	about := strings.Join(strings.Fields(g.Doc.Text()), " ")
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n| field | | |\n|---|---|---|\n%s", spec.Name.Name, about, strings.Join(rows, ""))
}

// kind is a Go type as JSON has it.
func kind(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return kind(e.X)
	case *ast.ArrayType:
		if id, ok := e.Elt.(*ast.Ident); ok && id.Name == "byte" {
			return "base64"
		}
		return "list of " + kind(e.Elt)
	case *ast.SelectorExpr:
		if e.Sel.Name == "Time" {
			return "time"
		}
		return "string"
	case *ast.Ident:
		switch {
		case strings.Contains(e.Name, "int"), strings.Contains(e.Name, "float"):
			return "number"
		case e.Name == "Code", e.Name == "JobState":
			return "string"
		}
		return e.Name
	}
	return fmt.Sprintf("%T", e)
}

var examples = regexp.MustCompile("(?s)```sh\n(.*?)```\n\n```json\n.*?```\n")

// withAnswers runs the examples of a page against a supervisor that is always in
// the same state.
func withAnswers(t *testing.T, page string) string {
	t.Helper()
	h := serve(t, street(t), exemplary())
	return examples.ReplaceAllStringFunc(page, func(example string) string {
		script := examples.FindStringSubmatch(example)[1]
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", strings.ReplaceAll(script, documented, h.path))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, errs.String())
		}
		return "```sh\n" + script + "```\n\n```json\n" + out.String() + "```\n"
	})
}

// exemplary is a supervisor with one service, in the middle of a reload.
func exemplary() *fake {
	at := func(s int) *time.Time {
		x := time.Date(2026, 11, 24, 10, 0, s, 0, time.UTC)
		return &x
	}
	const id = "17"
	job := Job{ID: id, Unit: "api", Verb: "reload", State: JobRunning, Generation: 9, From: 8, Asked: *at(0)}
	event := func(seq uint64, kind unit.ChangeKind, s int, text string) Event {
		return Event{Type: "event", Seq: seq, Time: at(s), Unit: "api", Jobs: []string{id}, Kind: kind, Text: text, Generation: 9}
	}
	events := func(yield func(Event) bool) {
		done := event(43, unit.Finished, 2, "done")
		done.State = JobDone
		for _, e := range []Event{
			event(41, unit.Began, 0, "started pid 30155"),
			event(42, unit.Switched, 2, "switched to generation 9 (pid 30155)"),
			done,
		} {
			if !yield(e) {
				return
			}
		}
	}
	return &fake{
		info: Info{Version: "v1.0.0", API: APIVersion, PID: 412, Epoch: "1f3a9c02", Since: *at(0), Config: "/etc/supervisord/supervisord.toml"},
		status: func([]string) (Status, error) {
			return Status{
				Time: *at(5),
				Services: []UnitStatus{{
					Name: "api", ActiveState: "active", SubState: "running", Since: at(2), Generation: 9, Ready: 1, Want: 1, MainPID: 30155,
					Memory: 42 << 20, Command: "/srv/api/api", Sockets: []string{"http"},
					Processes: []Process{{Role: "main", PID: 30155, Generation: 9, Phase: "serving", Since: at(2)}},
				}},
				Sockets: []SocketUnit{{Name: "http", Services: []string{"api"}, Sockets: []Socket{{Address: "127.0.0.1:8080", Listening: true, Limit: 4096}}}},
			}, nil
		},
		submit: func(r JobRequest) (Job, error) {
			if r.Unit != "api" {
				return Job{}, &Error{Code: NoSuchUnit, Message: "cannot reload nope: no such service", Hints: []string{"known services: api"}}
			}
			return job, nil
		},
		job: func(string) (Job, error) {
			ended := job
			ended.State, ended.Ended = JobDone, at(2)
			return ended, nil
		},
		jobEvents: func(context.Context, string, uint64, bool) (iter.Seq[Event], error) { return events, nil },
		events:    func(context.Context, uint64) iter.Seq[Event] { return events },
		logs: func(context.Context, LogRequest) (iter.Seq[LogLine], error) {
			return func(yield func(LogLine) bool) {
				_ = yield(LogLine{Type: "line", Time: at(1), Unit: "api", Generation: 9, PID: 30155, Text: "listening on 127.0.0.1:8080"}) &&
					yield(LogLine{Type: "line", Time: at(4), Unit: "api", Generation: 9, PID: 30155, Text: "GET /"})
			}, nil
		},
		history: func(HistoryRequest) (History, error) {
			uid := uint32(0)
			return History{Records: []Record{
				{Kind: RecordExit, Time: *at(1), Unit: "api", Generation: 8, Seconds: 86400.21, PID: 30110, Text: "was killed by SIGSEGV"},
				{
					Kind: RecordJob, Time: *at(2), Unit: "api", Generation: 9, Seconds: 2.04, Job: id, Verb: "reload", State: JobDone, From: 8, Asked: at(0), UID: &uid,
					Sockets: []SocketAccount{{Unit: "http", Address: "127.0.0.1:8080", Limit: 4096}},
				},
			}}, nil
		},
		reload: func() (Reloaded, error) { return Reloaded{Changed: []string{"api"}}, nil },
	}
}
