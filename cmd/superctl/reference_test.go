package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

//go:generate go test -count=1 -run "TestReference|TestManPages" . -update

// TestReference: the pages about superctl are made of what it is.
func TestReference(t *testing.T) {
	for name, write := range map[string]func(io.Writer){
		"superctl.md":    writeCommands,
		"exit-status.md": writeExitStatuses,
	} {
		path := filepath.Join("..", "..", "docs", "reference", name)
		var want strings.Builder
		write(&want)
		if *update {
			if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
				t.Error(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if diff := cmp.Diff(string(got), want.String()); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s\ngo generate ./cmd/superctl writes it anew", path, err, diff)
		}
	}
}

// writeCommands writes a section for each command.
func writeCommands(w io.Writer) {
	root := newRoot(newSession(io.Discard, io.Discard, func(string) string { return "" }))
	fmt.Fprint(w, "# superctl\n\n<!-- Made by go generate ./cmd/superctl from the commands themselves. -->\n\n")
	fmt.Fprintf(w, "%s\n\n", root.Long)
	fmt.Fprint(w, "| command | does |\n|---|---|\n")
	for _, c := range ours(root) {
		fmt.Fprintf(w, "| [%s](#%s) | %s |\n", c.Name(), c.Name(), c.Short)
	}
	fmt.Fprintf(w, "| completion SHELL | print the script with which bash, zsh, fish or powershell completes commands and names of units |\n\n")
	fmt.Fprintf(w, "Exit statuses: [exit-status.md](exit-status.md). The requests behind the commands: [rpc.md](rpc.md).\n\n")
	fmt.Fprintf(w, "## Flags of every command\n\n%s", flags(root.PersistentFlags()))
	for _, c := range ours(root) {
		fmt.Fprintf(w, "\n## %s\n\n", c.Name())
		fmt.Fprintf(w, "    %s\n\n", c.UseLine())
		fmt.Fprintf(w, "%s\n", prose(c))
		if c.HasLocalFlags() {
			fmt.Fprintf(w, "\n%s", flags(c.LocalFlags()))
		}
	}
}

func ours(root *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool {
		return c.Name() == "completion" || c.Name() == "help"
	})
}

func prose(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return strings.ToUpper(c.Short[:1]) + c.Short[1:] + "."
}

// flags is a list of flags as --help has it.
func flags(f *pflag.FlagSet) string {
	var b strings.Builder
	for line := range strings.Lines(f.FlagUsages()) {
		b.WriteString("    " + line)
	}
	return b.String()
}

// writeExitStatuses writes the table of statuses from that of codes.
func writeExitStatuses(w io.Writer) {
	fmt.Fprint(w, `# Exit statuses of superctl

<!-- Made by go generate ./cmd/superctl from the table in pkg/ipc/error.go. -->

| status | code of the error | meaning |
|---|---|---|
| 0 | | done; for status: shown, and if units were named each of them is active or reloading |
`)
	statuses := append([]int{2}, order...)
	slices.Sort(statuses)
	for _, status := range statuses {
		for _, m := range ipc.Codes {
			if m.Exit == status {
				fmt.Fprintf(w, "| %d | `%s` | %s |\n", m.Exit, m.Code, m.Text)
			}
		}
	}
	fmt.Fprintf(w, "| %d | | status: a unit that was named is neither active nor reloading |\n", exitNotActive)
	fmt.Fprintf(w, "| %d | | Ctrl-C or SIGTERM: superctl has gone, and what it asked for goes on |\n", exitDetached)
	fmt.Fprint(w, "\nA verb on several units exits with the worst of their statuses, in this order: ")
	for i, s := range order {
		if i > 0 {
			fmt.Fprint(w, ", ")
		}
		fmt.Fprint(w, s)
	}
	fmt.Fprint(w, ".\nA command line that makes no sense exits with 2 before anything is asked.\n")
}

// Every status that a code can have has its place in the order.
func TestEveryStatusHasItsPlace(t *testing.T) {
	for _, m := range ipc.Codes {
		if m.Code != ipc.Usage && !slices.Contains(order, m.Exit) {
			t.Errorf("%s exits with %d, which is not in the order", m.Code, m.Exit)
		}
	}
	for _, c := range []struct {
		of   []int
		want int
	}{{nil, 0}, {[]int{0, 7}, 7}, {[]int{7, 3, 1}, 1}, {[]int{4, 5, 6}, 6}, {[]int{0, 3}, 3}} {
		if got := worst(c.of...); got != c.want {
			t.Errorf("worst(%v) = %d, not %d", c.of, got, c.want)
		}
	}
}
