package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An attempt is one request to one process.
type attempt struct{ target, path, address string }

func (a *attempt) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.target, "try", "", "send one HTTP GET to one process of `SERVICE`; SERVICE/next, SERVICE/main and SERVICE/N choose which")
	f.StringVar(&a.path, "path", a.path, "with --try, the `PATH` to ask for")
	f.StringVar(&a.address, "address", "", "with --try, the `ADDRESS` of the socket, as sockets shows it; else the service's first")
}

// changed is a flag that makes sense with --try only, and was given.
func (a *attempt) changed(c *cobra.Command) string {
	for _, name := range []string{"path", "address"} {
		if c.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

func (s *session) try(c *cobra.Command, a attempt, names []string) error {
	if len(names) > 0 {
		return misuse(c, "--try is for one process: unexpected %.80q", names[0])
	}
	r, err := a.request(c)
	if err != nil {
		return err
	}
	t, err := s.client().Try(c.Context(), r)
	if err != nil {
		return err
	}
	if s.json {
		err = s.out.json(t)
	} else {
		s.showTried(t)
	}
	if err == nil && t.Code >= 500 {
		return exitStatus(1)
	}
	return err
}

// request takes the target apart: SERVICE, SERVICE/next, SERVICE/2.
func (a *attempt) request(c *cobra.Command) (ipc.TryRequest, error) {
	name, which, chosen := strings.Cut(a.target, "/")
	r := ipc.TryRequest{Unit: name, Address: a.address, Path: a.path}
	n, err := strconv.Atoi(which)
	switch {
	case !chosen:
	case which == string(unit.KillNext), which == string(unit.KillMain):
		r.Whom = unit.Whom(which)
	case err == nil && n >= 0 && n < ipc.MaxInstances && which == strconv.Itoa(n):
		r.Instance = &n
	default:
		return r, misuse(c, "invalid --try %.80q: use SERVICE, SERVICE/next, SERVICE/main, or SERVICE/N for instance N", a.target)
	}
	if err := ipc.CheckUnit(name); err != nil {
		return r, err
	}
	return r, ipc.CheckPath(a.path)
}

// showTried shows an answer. All of it but the first line was written by others.
func (s *session) showTried(t ipc.Tried) {
	who := t.Role
	if t.Instance > 0 {
		who += ", instance " + strconv.Itoa(t.Instance)
	}
	s.out.print("pid %d (%s, generation %d) at %s answered in %s\n", t.PID, who, t.Generation, t.Address, time.Duration(t.Seconds*float64(time.Second)).Round(100*time.Microsecond))
	s.out.print("\n%s\n", t.Status)
	for _, h := range t.Headers {
		s.out.print("%s\n", h)
	}
	if t.Body != "" {
		s.out.print("\n")
		for line := range strings.Lines(t.Body) {
			s.out.print("%s\n", s.out.logText(strings.TrimRight(line, "\r\n")))
		}
	}
	if t.More {
		s.note("there is more: it is not shown")
	}
}
