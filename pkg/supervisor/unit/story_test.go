package unit

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// A story is a file of events, one a line, each followed by what Step made of
// it, indented. Time moves by "wait" and "elapse" only.
//
//	instances N         life KEY[=VALUE]…        (of the builds that come after it)
//	ask ID VERB [SIZE]  traffic ID WAITING [AGO]    (when one was last taken)
//	                    started|ready|stopping|ping|trigger|gone ID
//	notstarted ID       exited ID [STATUS|SIGNAL]   found|lost [ID…]   (lost: by nobody kept)
//	extend ID DURATION  kill SIGNAL WHOM            clear
//	named|removed       broken SOCKET [ID…]
//	wait DURATION       elapse                      (to the deadline)
func TestStories(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(want))
			if *update {
				os.WriteFile(file, []byte(got), 0o644)
			} else if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

type story struct {
	s       Service
	now     Time
	life    Life
	sockets []*Socket
}

func tell(t *testing.T, text string) string {
	st := &story{s: Service{Inst: make([]Instance, 1)}, now: Time(time.Second), life: usual}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line[0] == '\t' {
			continue
		}
		b.WriteString(line)
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			if e := st.event(t, f); e != nil {
				var effects []Effect
				st.s, effects = Step(st.s, st.now, e)
				fmt.Fprintf(&b, "\t%s\n", st)
				for _, f := range effects {
					fmt.Fprintf(&b, "\t\t%v\n", f)
				}
			}
		}
	}
	return b.String()
}

var usual = Life{
	Type: Notify, Overlap: true, Restart: OnFailure, RestartSec: 100 * time.Millisecond, RestartMax: 30 * time.Second,
	RestartSteps: 8, ResetSec: 10 * time.Second, Interval: 10 * time.Second, Start: 90 * time.Second, Bake: time.Second,
	Settle: 20 * time.Millisecond, Stop: 10 * time.Second, Abort: 3 * time.Second, Kill: 5 * time.Second, ExtendMax: time.Minute,
	KillSignal: syscall.SIGTERM, KillMode: ControlGroup, MaxDraining: 2,
}

func (st *story) event(t *testing.T, f []string) Event {
	id := func(i int) Invocation {
		n, err := strconv.Atoi(f[i])
		if err != nil {
			t.Fatal(f, err)
		}
		return Invocation(n)
	}
	ids := func(from int) (all []Invocation) {
		for i := from; i < len(f); i++ {
			all = append(all, id(i))
		}
		return all
	}
	switch f[0] {
	case "instances":
		st.s.Inst = make([]Instance, id(1))
	case "life":
		st.life = parseLife(t, f[1:])
	case "sockets":
		st.sockets = nil
		for _, w := range f[1:] {
			st.sockets = append(st.sockets, parseSocket(t, w))
		}
	case "wait":
		d, _ := time.ParseDuration(f[1])
		st.now += Time(d)
	case "elapse":
		st.now = max(st.now, st.s.Deadline())
		return Elapsed{}
	case "ask":
		verb := map[string]Verb{"start": Start, "stop": Stop, "restart": Restart, "reload": Reload, "scale": Scale, "end": End}[f[2]]
		size, _ := strconv.Atoi(append(f, "")[3])
		return Asks{Job{ID: JobID(id(1)), Verb: verb}, &Build{Spec: &Spec{Name: "api", Life: st.life, Sockets: st.sockets}}, size}
	case "clear":
		return Clears{}
	case "kill":
		return Kills{signals[f[1]], Whom(f[2])}
	case "started":
		return Started{id(1), 1000 + int(id(1))}
	case "notstarted":
		return NotStarted{id(1), Exit{Kind: NotRun, Step: "exec", Errno: syscall.ENOENT}}
	case "ready":
		return Said{id(1), Notice{Ready: true}}
	case "stopping":
		return Said{id(1), Notice{Stopping: true}}
	case "ping":
		return Said{id(1), Notice{Ping: true}}
	case "trigger":
		return Said{id(1), Notice{Trigger: true}}
	case "extend":
		d, err := time.ParseDuration(f[2])
		if err != nil {
			t.Fatal(f, err)
		}
		return Said{id(1), Notice{Extend: d}}
	case "exited":
		return Exited{id(1), parseExit(t, append(f, "1")[2])}
	case "gone":
		return Gone{id(1)}
	case "traffic":
		n, _ := strconv.Atoi(f[2])
		ago := duration(t, append(f, "0s")[3])
		return Traffic{id(1), n, st.now - Time(ago)}
	case "found", "lost":
		return Found{Alive: ids(1), Lost: f[0] == "lost"}
	case "named", "removed":
		return Named{f[0] == "named"}
	case "broken":
		return Broken{f[1], ids(2)}
	default:
		t.Fatal("what is", f)
	}
	return nil
}

func parseLife(t *testing.T, words []string) Life {
	l := usual
	for _, w := range words {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "exec", "oneshot":
			l.Type = Type(k)
		case "remain":
			l.RemainAfterExit = true
		case "mixed":
			l.KillMode = Mixed
		case "watchdog":
			l.Watchdog = duration(t, v)
		case "runtime":
			l.Runtime = duration(t, v)
		case "start":
			l.Start = duration(t, v)
		case "success":
			code, _ := strconv.Atoi(v)
			l.Success.Codes = []int{code}
		case "overlap":
		case "alone":
			l.Overlap = false
		case "steer":
			l.Steer = true
		case "settle":
			l.Settle = duration(t, v)
		case "empty":
			l.Empty = duration(t, v)
		case "surge":
			l.Surge, _ = strconv.Atoi(v)
		case "instances":
			l.Instances, _ = strconv.Atoi(v)
		case "canary":
			l.Canary, _ = strconv.Atoi(v)
		case "restart":
			l.Restart = Policy(v)
		case "burst":
			l.Burst, _ = strconv.Atoi(v)
		default:
			t.Fatal("what is", w)
		}
	}
	return l
}

// parseSocket reads NAME=PORT, or NAME=PATH with {instance} in it.
func parseSocket(t *testing.T, w string) *Socket {
	name, at, _ := strings.Cut(w, "=")
	if port, err := strconv.Atoi(at); err == nil {
		return &Socket{Name: name, Listen: []Address{{Network: "tcp", Port: port}}}
	}
	return &Socket{Name: name, Listen: []Address{{Network: "unix", Path: at}}}
}

func duration(t *testing.T, s string) time.Duration {
	if s == "infinity" {
		return Infinity
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func parseExit(t *testing.T, s string) Exit {
	if sig, ok := signals[s]; ok {
		return Exit{Kind: ByKill, Signal: sig}
	}
	code, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return Exit{Kind: ByStatus, Code: code}
}

var signals = map[string]syscall.Signal{
	"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL, "SIGABRT": syscall.SIGABRT,
	"SIGSEGV": syscall.SIGSEGV, "SIGHUP": syscall.SIGHUP, "SIGUSR1": syscall.SIGUSR1,
}

func (st *story) String() string {
	s := st.s
	b := fmt.Sprintf("%s current %d", s.SubState(), s.Current)
	if s.Removed {
		b += " removed"
	}
	if s.Want == Ended {
		b += " ended"
	}
	if s.Target != 0 {
		b += fmt.Sprintf(" %s %d", []string{"forward to", "back from", "halted before"}[s.Roll], s.Target)
	}
	if s.Job.ID != 0 {
		b += fmt.Sprintf(" job %d", append([]JobID{s.Job.ID}, s.Job.Also...))
	}
	if len(s.Job.Starts) > 0 {
		b += fmt.Sprintf(" starts %d", s.Job.Starts)
	}
	if len(s.Job.Scales) > 0 {
		b += fmt.Sprintf(" scales %d", s.Job.Scales)
	}
	if s.Queue.ID != 0 {
		b += fmt.Sprintf(" queue %d", s.Queue.IDs())
	}
	for _, in := range s.Inst {
		b += " ["
		for _, p := range append([]Proc{in.Main, in.Next}, in.Old...) {
			b += st.proc(p) + ", "
		}
		b = strings.TrimRight(b, "-, ") + "]"
		if in.Surplus {
			b += " surplus"
		}
		if in.Due != 0 {
			b += fmt.Sprintf(" due %v", time.Duration(in.Due-st.now).Round(time.Millisecond))
		}
		if in.Result != Success && in.Result != "" {
			b += " " + string(in.Result)
		}
	}
	return b
}

var phases = []string{"spawning", "starting", "baking", "serving", "settling", "emptying", "aborted", "asked", "told", "stuck"}

func (st *story) proc(p Proc) string {
	if p.ID == 0 {
		return "-"
	}
	b := fmt.Sprintf("%d/g%d %s", p.ID, p.Gen, phases[p.Phase])
	if p.By != 0 {
		b += fmt.Sprintf(" %v", time.Duration(p.By-st.now).Round(time.Millisecond))
	}
	if p.Ping != 0 {
		b += fmt.Sprintf(" ping %v", time.Duration(p.Ping-st.now).Round(time.Millisecond))
	}
	if p.Stopping {
		b += " stopping"
	}
	if p.Ruined != "" && p.Phase <= Serving {
		b += fmt.Sprintf(" without %s for %v", p.Ruined, time.Duration(p.Renew-st.now).Round(time.Second))
	}
	if p.Fresh {
		b += " fresh"
	}
	if p.Empty {
		b += " empty"
	}
	return b
}

func (f Spawn) String() string {
	return strings.TrimSpace(fmt.Sprintf("spawn %d/g%d in %d %s", f.ID, f.Gen, f.Inst, map[bool]string{true: "fresh"}[f.Fresh]))
}
func (f Forget) String() string { return fmt.Sprintf("forget %d", f.ID) }
func (f Steer) String() string {
	var to []string
	for _, h := range f.Shares {
		to = append(to, fmt.Sprintf("%d: %d", h.ID, h.Weight))
	}
	switch {
	case f.Closed:
		to = append(to, "nobody, now or later")
	case len(to) == 0:
		to = append(to, "nobody yet")
	}
	return "steer to " + strings.Join(to, ", ")
}

func (f Doors) String() string {
	b := "doors"
	for _, d := range f.Doors {
		b += fmt.Sprintf(" %s", d)
	}
	return b
}

func (d Door) String() string {
	b := d.Socket.Name
	for _, a := range d.Socket.Listen {
		b += "=" + a.String()
	}
	if !d.Open {
		b = "(" + b + ")"
	}
	return b
}

func (Vanish) String() string { return "vanish" }

func (f Signal) String() string {
	for name, sig := range signals {
		if sig == f.Signal {
			return strings.TrimSpace(fmt.Sprintf("%s %d %s %s", name, f.ID, f.Mode, map[bool]string{false: "(an operator's)"}[f.Leave]))
		}
	}
	return fmt.Sprint(int(f.Signal), f.ID)
}

func (f Finish) String() string {
	s := strings.TrimSpace(fmt.Sprintf("%s %d %s", f.Result, f.Jobs, f.Why))
	if f.Proc.ID != 0 {
		s += fmt.Sprintf(" (%d)", f.Proc.ID)
	}
	return s
}
