package unit

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The state diagram in the docs is drawn from what Step does, not from what
// anybody thinks that it does.
func TestDiagram(t *testing.T) {
	edges := map[[2]SubState]map[string]bool{}
	note := func(s Service, e Event, to Service) {
		a, b := s.SubState(), to.SubState()
		if _, found := e.(Found); a == b || found {
			return
		}
		if edges[[2]SubState{a, b}] == nil {
			edges[[2]SubState{a, b}] = map[string]bool{}
		}
		edges[[2]SubState{a, b}][cause(e)] = true
	}
	for _, l := range []Life{
		{Type: Notify, Overlap: true, Restart: OnFailure, MaxDraining: 1},
		{Type: Exec, Restart: OnFailure, Burst: 1, MaxDraining: 1},
		{Type: Oneshot, RemainAfterExit: true, Restart: OnFailure, MaxDraining: 1},
	} {
		w := &world{T: t, n: 1, old: 1, life: l, seen: note}
		w.walk()
	}
	const file = "../../../docs/reference/states.md"
	got := diagram(edges)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what Step does: go test ./pkg/supervisor/unit -run Diagram -update", file)
	}
}

// cause names an event as an operator would.
func cause(e Event) string {
	switch e := e.(type) {
	case Asks:
		return e.Job.Verb.String()
	case Clears:
		return "reset-failed"
	case Started:
		return "program runs"
	case NotStarted:
		return "cannot be started"
	case Said:
		switch {
		case e.Notice.Ready:
			return "READY=1"
		case e.Notice.Stopping:
			return "STOPPING=1"
		}
		return "notify"
	case Exited:
		return "main process ends"
	case Gone:
		return "tree is gone"
	case Elapsed:
		return "deadline"
	}
	return fmt.Sprintf("%T", e)
}

func diagram(edges map[[2]SubState]map[string]bool) string {
	var b strings.Builder
	b.WriteString(`# States of a service

<!-- Generated from Step: go test ./pkg/supervisor/unit -run Diagram -update -->

What can follow from what, for services that overlap, that do not, and for
oneshots. Names are those of the SUB column of systemctl where it has them.

| from | to | by |
|---|---|---|
`)
	keys := make([][2]SubState, 0, len(edges))
	for k := range edges {
		keys = append(keys, k)
	}
	at := func(s SubState) int { return slices.Index(subStates, s) }
	slices.SortFunc(keys, func(a, b [2]SubState) int {
		return (at(a[0])-at(b[0]))*100 + at(a[1]) - at(b[1])
	})
	for _, k := range keys {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", k[0], k[1], strings.Join(sorted(edges[k]), ", "))
	}
	b.WriteString("\n```mermaid\nstateDiagram-v2\n")
	for _, s := range subStates {
		fmt.Fprintf(&b, "    %s: %s\n", id(s), s)
	}
	for _, k := range keys {
		fmt.Fprintf(&b, "    %s --> %s\n", id(k[0]), id(k[1]))
	}
	b.WriteString("```\n\n| sub-state | active state |\n|---|---|\n")
	for _, s := range subStates {
		fmt.Fprintf(&b, "| %s | %s |\n", s, activeStates[s])
	}
	return b.String()
}

func id(s SubState) string { return strings.ReplaceAll(string(s), "-", "_") }

func sorted(set map[string]bool) (all []string) {
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}
