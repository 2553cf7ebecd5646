package process

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// fakes are the programs that tests start, by argv[0].
var fakes = map[string]func(args []string){
	"fake-dump":       dump,
	"fake-sockets":    serveSockets,
	"fake-supervisor": superviseAndHang,
	"fake-exit":       func(args []string) { code, _ := strconv.Atoi(args[0]); os.Exit(code) },
}

// A given is all that a process gets from whoever started it.
type given struct {
	Argv, Env     []string
	Files         map[int]string
	Status        map[string]string
	Dir           string
	Umask         int
	Nice          int
	OOMScoreAdj   string
	Terminal      int
	Leads         bool // its session and group
	Keyring       int
	Core, NoFile  [2]uint64
	Data          [2]uint64
	SetuidRefused bool
}

func dump([]string) {
	d := given{Argv: os.Args, Files: files(), Status: map[string]string{}}
	env, _ := os.ReadFile("/proc/self/environ")
	d.Env = strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")
	slices.Sort(d.Env)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		d.Status[key] = strings.Join(strings.Fields(value), " ")
	}
	d.Dir, _ = os.Getwd()
	d.Umask = syscall.Umask(0)
	d.Nice, _ = syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	d.Nice = 20 - d.Nice
	adj, _ := os.ReadFile("/proc/self/oom_score_adj")
	d.OOMScoreAdj = strings.TrimSpace(string(adj))
	d.Leads = unix.Getpgrp() == os.Getpid() && ownSession() == os.Getpid()
	stat, _ := os.ReadFile("/proc/self/stat")
	d.Terminal, _ = strconv.Atoi(strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))[5])
	d.Keyring, _ = unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	limits, _ := os.ReadFile("/proc/self/limits")
	d.Core, d.NoFile, d.Data = limit(limits, "Max core file size"), limit(limits, "Max open files"), limit(limits, "Max data size")
	d.SetuidRefused = syscall.Setuid(0) == syscall.EPERM
	json.NewEncoder(os.Stdout).Encode(d)
}

// limit is soft and hard; the Go runtime of the fake has raised the soft limit of
// files to the hard one in the meantime, so for that the shell is asked.
func limit(limits []byte, name string) (v [2]uint64) {
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			for i, f := range strings.Fields(rest)[:2] {
				v[i], _ = strconv.ParseUint(strings.Replace(f, "unlimited", "18446744073709551615", 1), 10, 64)
			}
		}
	}
	return v
}

func files() map[int]string {
	files := map[int]string{}
	for fd := range 1024 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			files[fd], _ = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		}
	}
	return files
}

// serveSockets is a stock client of socket activation: it answers one connection
// on each of its listeners with the listener's name and place.
func serveSockets([]string) {
	fds := activation.Files(false)
	names := map[string]int{}
	for i, f := range fds {
		names[f.Name()]++
		l, err := net.FileListener(f)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		c, err := l.Accept()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Fprintf(c, "%d %s", i, f.Name())
		c.Close()
	}
	fmt.Println("served", len(fds), "as", len(names), "names")
}

// superviseAndHang starts a program but never lets it go on.
func superviseAndHang(args []string) {
	l, err := NewLauncher(Options{NoCgroups: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	t := sh("echo started")
	t.ID, t.Output = 1, 1
	l.Launch(context.Background(), t, func(p *Process) error {
		fmt.Println(p.PID())
		time.Sleep(patience) // until it is killed, and not for ever
		return nil
	})
}
