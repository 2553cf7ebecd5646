package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

func verifyCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "check a configuration",
		Long: `verify reads a configuration as supervisord would and prints every problem as
FILE:LINE:COLUMN: KEY: what is wrong; what would be right. It does not contact
supervisord, and opens files as you. With nothing but warnings it exits with 0.`,
		Annotations: offline,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return misuse(c, "verify takes one file: %q", args[1])
			}
			return nil
		},
	}
	s.outputFlag(c, "text")
	c.RunE = func(c *cobra.Command, args []string) error {
		path := s.config
		if len(args) > 0 {
			path = args[0]
		}
		conf, problems := config.Load(path, config.Options{Root: os.Geteuid() == 0, Environ: os.Environ(), Check: true, Unsteerable: unsteerable()})
		return s.showProblems(conf, problems)
	}
	return c
}

// A problem is config's, for programs.
type problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Key     string `json:"key"`
	Message string `json:"message"`
	Warning bool   `json:"warning"`
}

func (s *session) showProblems(conf *config.Config, problems []config.Problem) error {
	failed := false
	list := []problem{}
	for _, p := range problems {
		failed = failed || !p.Warning
		list = append(list, problem{p.File, p.Line, p.Col, p.Key, p.Message, p.Warning})
		if !s.json {
			s.out.print("%s\n", p.String())
		}
	}
	if s.json {
		if err := s.out.json(list); err != nil {
			return err
		}
	} else if !failed && conf != nil {
		s.out.print("%s: %s, %s\n", conf.Path, count(len(conf.Services), "service"), count(len(conf.Sockets), "socket"))
	}
	if failed {
		return exitStatus(1)
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// unsteerable is why a supervisord with the rights of this process could not steer
// sockets. It looks at these rights alone: superctl loads no program into the kernel.
func unsteerable() string {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return "" // nobody knows
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	if inUserNamespace() {
		return "steering needs CAP_BPF outside of user namespaces, so a rootless container cannot have it"
	}
	if has(unix.CAP_BPF) || has(unix.CAP_SYS_ADMIN) {
		return ""
	}
	return "steering needs CAP_BPF, which root has, but in a container only with --cap-add BPF"
}

// inUserNamespace tells whether capabilities are worth nothing to bpf(2): it asks for
// them in the first user namespace, which the kernel gives a number of its own.
func inUserNamespace() bool {
	const first = 0xEFFFFFFD // PROC_USER_INIT_INO in linux/proc_ns.h
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != first
}
