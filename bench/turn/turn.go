// Package turn is how the bench speaks with a starter, a process that starts
// others in one way. Both write JSON: the starter says [Hello], and then answers
// each [Order] on stdin with a [Result] on stdout until stdin ends.
package turn

import "time"

// The ways to start a process.
const (
	Exec     = "fork and exec"        // as package syscall does it
	Template = "template"             // package spawn alone
	Launcher = "launcher"             // process.Launcher with cgroups
	Sessions = "launcher, no cgroups" // and without
)

// Hello is a starter that is as large as it was to be.
type Hello struct {
	RSS      int64  // of the starter, in KiB
	Template int64  // of its template, in KiB; 0: it has none
	Without  string // why it cannot start anything in its way; then it ends
}

// An Order asks for some starts.
type Order struct {
	N      int
	AtOnce int // that are under way at a time
}

// A Result is what they took.
type Result struct {
	Took []time.Duration // each, until the program runs
	CPU  time.Duration   // all: of the starter, its template and the programs
	Err  string          // why they were not all done
}
