package main

import (
	"fmt"
	"io"
	"strings"
)

// What --help says of the command line. man/supervisord.8 is made of it as well.
type about struct{ what, does string }

var synopsis = []string{"supervisord [-c FILE]", "supervisord --check [-c FILE]", "supervisord --demo"}

var flagTexts = []about{
	{"-c FILE", "configuration file (default: $SUPERVISORD_CONFIG, else /etc/supervisord/supervisord.toml as root, else $XDG_CONFIG_HOME/supervisord/supervisord.toml)"},
	{"--check", "report every problem in the configuration and exit"},
	{"--demo", "run a small web service from a built-in configuration"},
	{"--version", "print the version"},
}

var signalTexts = []about{
	{"TERM, INT", "stop all services; a second INT kills them"},
	{"HUP", "reload the configuration"},
	{"USR1", "reopen the log files"},
}

var statusTexts = []about{
	{fmt.Sprint(exitOK), "after an orderly stop"},
	{fmt.Sprint(exitFailure), "it could not start, or --check found an error"},
	{fmt.Sprint(exitUsage), "the command line makes no sense"},
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "usage: %s\n\n", strings.Join(synopsis, "\n       "))
	explain(w, flagTexts)
	fmt.Fprint(w, "\nSignals:\n")
	explain(w, signalTexts)
	fmt.Fprint(w, "\nExit status:\n")
	explain(w, statusTexts)
}

// explain prints a list that is at most 80 columns wide.
func explain(w io.Writer, list []about) {
	for _, a := range list {
		head := fmt.Sprintf("  %-10s", a.what)
		for _, word := range strings.Fields(a.does) {
			if len(head)+1+len(word) > 78 {
				fmt.Fprintln(w, head)
				head = strings.Repeat(" ", 12)
			}
			head += " " + word
		}
		fmt.Fprintln(w, head)
	}
}
