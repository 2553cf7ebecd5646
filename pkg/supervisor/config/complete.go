package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// defaultGroup may read logs, where there is such a group.
const defaultGroup = "adm"

// emptyWait is how much longer than settle an old process is left alone while
// connections are on their way to it.
const emptyWait = 10 * time.Second

// killWait is how long SIGKILL may take before a process counts as stuck.
const killWait = 5 * time.Second

// complete fills in what depends on several keys, and checks what only shows
// when all are there.
func (l *load) complete() {
	m := &l.config.Manager
	l.checkHome()
	m.setDirectories(l.o)
	if !l.manager.names("read_group") && l.o.Root {
		m.ReadGroup = defaultGroup
	}
	l.checkRuntimeDirectory()
	l.socketNames = slices.Sorted(maps.Keys(l.sockets))
	for _, name := range l.socketNames {
		l.sockets[name].complete()
	}
	for _, name := range slices.Sorted(maps.Keys(l.services)) {
		s := l.services[name]
		s.complete(l.o)
		l.checkSockets(s)
	}
	l.follow()
	l.steer()
	l.share()
	l.checkAddresses()
	l.follow()
	l.collect()
	l.checkTrust()
}

// collect puts into the configuration what is right.
func (l *load) collect() {
	for _, s := range l.standingSockets() {
		l.config.Sockets = append(l.config.Sockets, &s.Socket)
	}
	for _, s := range l.standingServices() {
		l.config.Services = append(l.config.Services, &s.Spec)
	}
	slices.SortFunc(l.config.Sockets, func(a, b *unit.Socket) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(l.config.Services, func(a, b *unit.Spec) int { return strings.Compare(a.Name, b.Name) })
	if l.atStart {
		l.leaveOut()
	}
}

// checkTrust names services that run as root beside some that do not. Where none
// has a user of its own there is no boundary to speak of, and with one that says
// "root" somebody has thought of it.
func (l *load) checkTrust() {
	if !l.o.Root || l.o.PID1 {
		return
	}
	own := func(s *unit.Spec) bool {
		return s.Program.User != "" && s.Program.User != "root" && s.Program.User != "0"
	}
	if !slices.ContainsFunc(l.config.Services, own) {
		return
	}
	for _, s := range l.config.Services {
		if s.Program.User == "" && !l.services[s.Name].set.has("user") {
			l.services[s.Name].from.doubtful("it runs as root, and can do to the other services whatever supervisord can; give it a user of its own, or write user = \"root\" if that is intended")
		}
	}
}

// names says whether the table at c has a key.
func (c cursor) names(key string) bool {
	table, _ := c.value.(map[string]any)
	_, ok := table[key]
	return ok
}

func (s *socket) complete() {
	setDefault(&s.FDName, s.Name)
	s.Mode = uint32(s.mode)
	s.ReceiveBuf, s.SendBuf = int(s.receiveBuf), int(s.sendBuf)
	if s.ipv6Only == "both" || s.ipv6Only == "ipv6-only" {
		only := s.ipv6Only == "ipv6-only"
		s.IPv6Only = &only
	}
	if s.from.value == nil {
		return // it is no table, and that was said
	}
	if !s.set.has("listen_stream") {
		s.from.wrong("listen_stream is missing; write where to listen, like listen_stream = [\"127.0.0.1:8080\"]")
		return
	}
	c := s.set["listen_stream"]
	for i, a := range s.Listen {
		if s.toSteer() && a.Network == "unix" {
			c.element(i, nil).doubtful("a unix socket cannot be steered: all processes accept from one queue there")
		}
		if strings.HasPrefix(a.Path, "@") {
			c.element(i, nil).doubtful("everybody on this machine can connect to an abstract socket, and take its name first; a path has an owner and a mode")
		}
	}
}

// checkSockets says which sockets of a service do not exist.
func (l *load) checkSockets(s *service) {
	c := s.set["sockets"]
	seen := map[string]bool{}
	for i, name := range s.sockets {
		switch stem, _ := strings.CutSuffix(name, ".socket"); {
		case name == "": // it was complained of
		case seen[name]:
			c.element(i, nil).wrong("%q is listed twice; leave one out", name)
		case l.sockets[name] != nil:
			s.Sockets = append(s.Sockets, &l.sockets[name].Socket)
		case l.sockets[stem] != nil:
			c.element(i, nil).wrong("there is no [socket.%s]; did you mean %q?", quoteKey(name), stem)
		default:
			c.element(i, nil).wrong("there is no [socket.%s]; %s", quoteKey(name), l.hint(name))
		}
		seen[name] = true
	}
}

func (l *load) hint(name string) string {
	if near := l.closest(name, l.socketNames); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return `write one, with listen_stream = ["127.0.0.1:8080"] or wherever it is to listen`
}

func (s *service) complete(o Options) {
	if !s.set.has("exec_start") && s.from.value != nil {
		s.from.wrong("exec_start is missing; write what to run, like exec_start = [\"/srv/api/api\"]")
	}
	s.Boot = s.start == "boot"
	s.setProgram(o)
	s.setDirectory(o)
	s.setTimes(o)
	s.setReload()
	s.checkNotify()
	s.setForward(o)
	slices.SortFunc(s.Program.Limits, func(a, b unit.Limit) int { return a.Resource - b.Resource })
	s.check(o)
}

func (s *service) setForward(o Options) {
	s.Log.Forward, s.Log.Journal = s.forward == toStdout, s.forward == toJournal
	if !s.set.has("log.forward") {
		s.Log.Forward = o.PID1 || o.Terminal
	}
	switch {
	case !s.set.has("log.forward_prefix") && !o.Terminal:
		s.Log.Prefix = unit.PrefixAuto
	case s.prefix, !s.set.has("log.forward_prefix"):
		s.Log.Prefix = unit.PrefixAlways
	default:
		s.Log.Prefix = unit.PrefixNever
	}
}

func (s *service) setDirectory(o Options) {
	p := &s.Program
	c, written := s.set["working_directory"]
	switch {
	case p.Dir != "":
		p.Dir = relativeTo(c.file.dir, p.Dir)
	case o.Root:
		p.Dir = "/"
	default:
		p.Dir = s.from.file.dir
	}
	if why := s.from.file.load.missing(p.Dir, true); written && why != "" {
		c.doubtful("%s; it cannot start until that is fixed", why)
	}
}

func (s *service) setTimes(o Options) {
	l := &s.Life
	l.Kill, l.Empty = killWait, emptyWait
	if !s.set.has("timeout_start_sec") {
		l.Start = 90 * time.Second
		if l.Type == unit.Oneshot {
			l.Start = unit.Infinity
		}
	}
	if !s.set.has("timeout_stop_sec") {
		l.Stop = 90 * time.Second
		if o.PID1 { // Kubernetes allows 30 s for all
			l.Stop = 20 * time.Second
		}
	}
	setDefault(&l.Abort, l.Stop)
	setDefault(&l.ExtendMax, extendMax(l.Start, l.Stop))
}

// extendMax is ten times the longer timeout that ends. One that does not end needs
// no extension, and must not let the other one be put off for ever.
func extendMax(start, stop time.Duration) time.Duration {
	d := max(start, stop)
	if d == unit.Infinity {
		d = min(start, stop)
	}
	if d > unit.Infinity/10 {
		return unit.Infinity
	}
	return 10 * d
}

func (s *service) setReload() {
	if !s.set.has("reload.mode") {
		s.mode = "restart"
		if len(s.sockets) > 0 && s.Life.Type != unit.Oneshot {
			s.mode = "overlap"
		}
	}
	s.Life.Overlap = s.mode == "overlap"
}

// checkNotify: who is to say something must be heard.
func (s *service) checkNotify() {
	l := s.Life
	needs := ""
	switch {
	case l.Type == unit.Notify:
		needs = `type "notify"`
	case l.Watchdog > 0:
		needs = "watchdog_sec"
	}
	if c, ok := s.set["notify_access"]; ok && s.Notify == unit.NotifyNone && needs != "" {
		c.wrong("\"none\" ignores the messages that %s needs; write \"main\", or leave it out", needs)
	}
}

// check finds what is right by itself, and does not go together.
func (s *service) check(o Options) {
	l := s.Life
	if c, ok := s.set["restart"]; ok && l.Type == unit.Oneshot && (l.Restart == unit.Always || l.Restart == unit.OnSuccess) {
		c.wrong("%q would run a oneshot again and again, since it exits successfully; write \"on-failure\" or \"no\"", l.Restart)
	}
	if c, ok := s.set["remain_after_exit"]; ok && l.RemainAfterExit && l.Type != unit.Oneshot {
		c.wrong("it is for type = \"oneshot\" only; leave it out")
	}
	if c, ok := s.set["restart_max_delay_sec"]; ok && l.RestartMax < l.RestartSec {
		c.wrong("it is less than restart_sec (%s); write a longer time, or restart_steps = 0 if the wait is not to grow", short(l.RestartSec))
	}
	if c, ok := s.set["reload.mode"]; ok && l.Overlap && l.Type == unit.Oneshot {
		c.wrong("a oneshot does not keep running, so nothing overlaps; leave it out")
	}
	if c, ok := s.set["start_limit_burst"]; ok && s.unreachable() {
		c.doubtful("restarts are delayed so long that it cannot crash %d times within start_limit_interval_sec (%s), so the limit is never reached; write a longer interval", l.Burst+1, short(l.Interval))
	}
	if c, ok := s.set["sockets"]; ok && l.Type == unit.Exec && len(s.sockets) > 0 {
		c.doubtful("type \"exec\" counts as ready before the program accepts, so connections may wait in the queue; write type = \"notify\" if the program calls sd_notify")
	}
	s.checkAccount(o)
}

// checkAccount: a number that no database has names no group, and only root runs programs as
// somebody else.
func (s *service) checkAccount(o Options) {
	p := s.Program
	if isID(p.User) && p.Group == "" && !s.from.file.load.knows("user", p.User) {
		s.set["user"].doubtful("%s is not in /etc/passwd, which would name its group; getent is asked for it at each start; write group as well if it is unknown there too", p.User)
	}
	for _, name := range []string{"user", "group"} {
		if c, ok := s.set[name]; ok && !o.Root && c.value != "" {
			c.doubtful("only root can start a program as another user; leave it out, or run supervisord as root")
			return
		}
	}
}

// unreachable says whether even the shortest waits between Burst+1 crashes in a
// row are longer than the interval in which they are counted.
func (s *service) unreachable() bool {
	l := s.Life
	if l.Burst == 0 {
		return false
	}
	const shortest = 0.75                // the jitter
	waits := l.Burst - 1                 // after the second crash and those that follow
	grow := min(waits, l.RestartSteps+1) // then they are all the same
	sum := float64(waits-grow) * float64(backoff(l, grow+1))
	for k := 1; k <= grow; k++ {
		sum += float64(backoff(l, k))
	}
	return shortest*sum >= float64(l.Interval)
}

// backoff is how systemd.service(5) makes the waits grow from RestartSec to
// RestartMax: the formula of package unit, which does the waiting.
func backoff(l unit.Life, k int) time.Duration {
	switch {
	case l.RestartSteps == 0 || l.RestartSec == 0 || l.RestartMax <= l.RestartSec || k <= 1:
		return l.RestartSec
	case k > l.RestartSteps:
		return l.RestartMax
	}
	ratio := float64(l.RestartMax) / float64(l.RestartSec)
	return time.Duration(float64(l.RestartSec) * math.Pow(ratio, float64(k-1)/float64(l.RestartSteps)))
}

// short is a duration as one would write it.
func short(d time.Duration) string {
	if d == unit.Infinity {
		return "infinity"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
