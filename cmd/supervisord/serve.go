package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/store"
)

// serve runs supervisord until it is told to stop.
func serve(f flags) error {
	given, err := harden()
	if err != nil {
		return err
	}
	upward := newUpward()
	signals := make(chan os.Signal, 16)
	// These would end us: a reader of our output that went, a limit on file sizes.
	// Ignored they would stay so in what we start.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE, unix.SIGXFSZ)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)

	out := newOutput()
	defer out.flush()
	boot := bootUp(func() (*assembly, error) { return assemble(f, given, out) })
	d, hup, err := boot.wait(signals)
	if d == nil {
		return err
	}
	d.upward = upward
	d.say(f.demo)
	d.manager.Start()
	upward.notify("READY=1\nSTATUS=" + d.summary())
	d.run(signals, hup)
	return nil
}

// assemble makes all that is there before a service runs.
func assemble(f flags, given []socket.Given, out *output) (*assembly, error) {
	c, clean, err := configuration(f)
	if err != nil {
		return nil, err
	}
	d := &assembly{config: c, table: socket.NewTable(given), out: out, clean: clean}
	if err := d.build(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// configuration is what to run, and how to remove what was made for it.
func configuration(f flags) (*config.Config, func(), error) {
	if f.demo {
		return prepareDemo()
	}
	c, problems := config.LoadAtStart(f.config, options())
	report(os.Stderr, problems)
	if c == nil {
		return nil, nil, &reported{}
	}
	return c, func() {}, nil
}

// An assembly is all that main has put together.
type assembly struct {
	config  *config.Config
	store   *store.Store
	state   *safepath.Dir
	logs    *safepath.Dir
	table   *socket.Table
	manager *supervisor.Manager
	control control
	server  *ipc.Server
	out     *output
	log     zerolog.Logger
	upward  *upward
	clean   func() // removes what was made for the configuration
}

// build makes everything that can fail before anything runs.
func (d *assembly) build() (err error) {
	c := d.config
	if d.log, err = d.out.log(c.Manager.LogLevel); err != nil {
		return err
	}
	d.sayAside()
	if d.store, err = store.Open(c.Manager.RuntimeDirectory); err != nil {
		return err
	}
	if d.state, err = safepath.MakeDir(c.Manager.StateDirectory, 0o755); err != nil {
		return err
	}
	if err = d.openLogs(); err != nil {
		return err
	}
	d.manager, err = supervisor.New(supervisor.Options{
		Config: c, Store: d.store, Table: d.table, State: d.state, Logs: d.logs, Forward: d.out.forward(), Journal: d.out.journal().send, Log: d.log, Version: version(), Sole: true,
		Reload: func() (*config.Config, []config.Problem) { return load(c.Path) },
	})
	if err != nil {
		return err
	}
	d.manager.Bind()
	d.releaseGiven()
	d.server = ipc.NewServer(d.manager, d.log)
	_, err = d.bindControl()
	return err
}

// sayAside says that supervisord starts in spite of errors, and without what.
func (d *assembly) sayAside() {
	if len(d.config.Aside) > 0 {
		d.log.Error().Str("hint", "correct them, then: superctl daemon-reload").Msg("set aside because of errors in the configuration: " + asideNames(d.config.Aside))
	}
	for _, what := range d.config.Degraded {
		d.log.Error().Str("hint", "correct it, then: superctl daemon-reload").Msg("left out because of an error in the configuration: " + what)
	}
}

// asideNames are the first names, and how many more there are.
func asideNames(all []config.Aside) string {
	const few = 20
	var names []string
	for _, a := range all[:min(few, len(all))] {
		names = append(names, a.String())
	}
	if rest := len(all) - few; rest > 0 {
		names = append(names, fmt.Sprintf("and %d more", rest))
	}
	return strings.Join(names, ", ")
}

// close ends what build has begun, in the other order.
func (d *assembly) close() {
	if d.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		d.server.Shutdown(ctx)
	}
	if d.manager != nil {
		d.manager.Close()
	}
	d.table.Close()
	for _, dir := range []*safepath.Dir{d.state, d.logs} {
		if dir != nil {
			dir.Close()
		}
	}
	if d.control.listener != nil {
		ipc.Unlink(d.store.Runtime(), config.ControlSocket, d.control.node)
	}
	if d.store != nil {
		d.store.Close()
	}
	d.clean()
}

// openLogs makes the directory of the log files: its group may read them. Where there is
// no giving it to that group, as in a user namespace, nobody else may.
func (d *assembly) openLogs() (err error) {
	m := d.config.Manager
	if d.logs, err = safepath.MakeLogDir(m.LogDirectory, 0o750); err != nil {
		return err
	}
	if gid, ok := groupID(m.ReadGroup); ok {
		if err := safepath.Chown(d.logs.FD(), -1, gid); err != nil {
			d.log.Warn().Str("hint", `read_group = "" says that no group is to have it`).Msgf("cannot give %s to group %s: %v", d.logs.Path(), m.ReadGroup, err)
		}
	}
	return nil
}

// groupID is of a group's name, or its number in decimal.
func groupID(name string) (int, bool) {
	if gid, err := process.ParseID(name); err == nil {
		return int(gid), true
	}
	g, err := user.LookupGroup(name)
	if name == "" || err != nil {
		return 0, false // the default group need not be there; others were checked
	}
	gid, err := strconv.Atoi(g.Gid)
	return gid, err == nil
}

// say tells where supervisord is to be found.
func (d *assembly) say(demo bool) {
	control := d.store.Runtime().Path() + "/" + config.ControlSocket
	if demo {
		introduce(d.out.own, control, d.addresses()[0])
		return
	}
	d.log.Info().Str("config", d.config.Path).Strs("listen", d.addresses()).Str("status", superctl(control)+" status").Msg("supervisord " + version())
}

// addresses are those on which services are served, or will be.
func (d *assembly) addresses() []string {
	all := []string{}
	for _, s := range d.config.Sockets {
		for _, st := range d.table.Status(s.Name) {
			all = append(all, st.Address)
		}
	}
	return all
}

// summary is one line of what there is.
func (d *assembly) summary() string {
	all, active, failed := d.manager.Count()
	s := fmt.Sprintf("%d of %d services active", active, all)
	if failed > 0 {
		s += fmt.Sprintf(", %d failed", failed)
	}
	return s
}

// report keeps what systemd shows of us up to date.
func (d *assembly) report(ctx context.Context) {
	if d.upward.addr == nil {
		return
	}
	say := newChore(ctx, atMostEvery(ctx, statusPause, changed(d.summary, func(s string) { d.upward.notify("STATUS=" + s) })))
	events := d.manager.Events(ctx, 0)
	say.ask() // for what has happened before
	for e := range events {
		if e.Kind == "state" {
			say.ask()
		}
	}
}

// statusPause is between two messages about how many services are active: of many that
// change at once, systemd is told in one.
const statusPause = 500 * time.Millisecond

// atMostEvery is do with a pause after it, which ctx may cut short.
func atMostEvery(ctx context.Context, pause time.Duration, do func()) func() {
	return func() {
		do()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// changed says what text is, if that is not what it said last.
func changed(text func() string, say func(string)) func() {
	last := ""
	return func() {
		if now := text(); now != last {
			last = now
			say(now)
		}
	}
}

// An upward speaks sd_notify(3) with whoever started us.
type upward struct{ addr *net.UnixAddr }

// newUpward takes the socket's name out of the environment: services get one of
// their own.
func newUpward() *upward {
	name := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	if name == "" {
		return &upward{}
	}
	return &upward{&net.UnixAddr{Name: name, Net: "unixgram"}}
}

// notify sends one message. Nobody is helped if an error of it stops us.
func (u *upward) notify(message string) {
	if u.addr == nil {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, u.addr)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	conn.Write([]byte(message))
}
