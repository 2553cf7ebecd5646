package gauntlet

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// Options say what is run. Zero values of counts and lists are the defaults that
// Fill gives them; of the rest they mean none.
type Options struct {
	Reloads  int           // how many
	Bad      float64       // share of them that is of a broken build
	Worker   string        // the good build, one of Workers
	Broken   []string      // the broken builds, by turns
	Steer    bool          // supervisord chooses who gets a new connection
	Handover bool          // idle connections go from one process to the next
	Restart  bool          // stop and start instead of reloads
	Stall    bool          // the process that serves stops accepting before each reload
	Crowd    int           // clients that come then, and wait; before a reload of a good build only
	Pace     time.Duration // that a process takes to accept a connection
	Late     time.Duration // from SIGTERM until a process notices it
	Own      bool          // the worker listens by itself; HTTP on one address is all that it serves

	Modes   []load.Mode
	Clients int           // of each mode
	Timeout time.Duration // of a request
	Pause   time.Duration // of a client between two requests
	Rate    float64       // requests of each mode that are due a second; 0: each follows the last
	Body    int           // bytes of a POST

	Canary int // per cent of new connections for a process that bakes, if steered
	Bake   time.Duration
	Settle time.Duration // 0: as the worker needs it
	Drain  time.Duration // after a reload, for which latencies still count as its own
	Gap    time.Duration // from there to the next reload

	Rounds int           // of the comparison with a bare worker
	Trace  time.Duration // for how long latencies are kept with their times
	Say    func(format string, args ...any)
}

// Workers are the good builds.
var Workers = []string{"library", "plain", "stock", "cstyle"}

// These builds die while they bake: one with the connections that it has accepted, one
// with those that wait for it. On a steered socket both have some only as canaries.
const (
	diesAccepting = "dies-accepting"
	diesWithQueue = "dies-with-queue"
)

// Broken are the other broken builds, to which not one request may be lost.
var Broken = []string{"never-ready", "exits-at-start", "exits-in-bake", "hangs"}

// Fill gives each option that needs one its default.
func (o Options) Fill() Options {
	if o.Worker == "" {
		o.Worker = "plain"
	}
	if o.Broken == nil {
		o.Broken = Broken
		if o.Steer {
			o.Broken = slices.Concat(Broken, []string{diesAccepting})
		}
		if o.Steer && o.Canary > 0 {
			o.Broken = append(o.Broken, diesWithQueue)
		}
	}
	if o.Modes == nil {
		o.Modes = load.Modes
	}
	if o.Clients == 0 {
		o.Clients = 32
	}
	if o.Body == 0 {
		o.Body = 200
	}
	if o.Timeout == 0 {
		o.Timeout = requestTimeout
	}
	if o.Bake == 0 {
		o.Bake = 300 * time.Millisecond
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	return o
}

// broken says whether the reload with this number is of a broken build, and
// which. Bad ones are spread evenly; the first reload of a half is good. So is the last
// if the process that serves stalls, as clients would wait for ever.
func (o Options) broken(n int) (build string, bad bool) {
	before, after := int(float64(n)*o.Bad), int(float64(n+1)*o.Bad)
	if after == before || len(o.Broken) == 0 || o.Stall && n == o.Reloads-1 {
		return o.Worker, false
	}
	return o.Broken[before%len(o.Broken)], true
}

// Promised says whether a mode may lose nothing, besides what a broken build had
// accepted itself. A worker that calls Shutdown at once closes connections that it
// takes for idle; with steering it has no new ones by then. One that shuts its sockets
// down does that to the next process too, if they share them.
func (o Options) Promised(m load.Mode) bool {
	switch {
	case o.Restart:
		return false
	case o.Worker == "cstyle":
		return o.steered(m.Socket)
	case o.Worker == "stock":
		return o.steered(m.Socket) && !m.Keep
	}
	return true
}

// steered says whether a process gets no connection of a socket unless supervisord
// says so.
func (o Options) steered(s load.Socket) bool { return o.Steer && s != load.Unix }

// settle is how long a process that gets no new connections any more has for those
// it just got, if it is steered. Only a worker that calls Shutdown at once needs it:
// a connection whose request arrives after that is lost.
func (o Options) settle() time.Duration {
	switch {
	case o.Settle > 0:
		return o.Settle
	case o.Worker == "stock":
		return time.Second
	}
	return 50 * time.Millisecond
}

// sockets are those that the service has: what the modes ask, and where throughput and
// canaries are measured.
func (o Options) sockets() (names []load.Socket) {
	for _, s := range sockets {
		asked := func(m load.Mode) bool { return m.Socket == s }
		if s == load.Plain || slices.ContainsFunc(o.Modes, asked) {
			names = append(names, s)
		}
	}
	return names
}

// after is for how long after a reload latencies count as its own.
func (o Options) after() time.Duration {
	if o.Steer {
		return o.settle() + o.Drain
	}
	return o.Drain
}

// unnoticed says whether the connections of a mode outlive the process that has
// them.
func (o Options) unnoticed(m load.Mode) bool {
	return o.Handover && o.Worker == "library" && !o.Restart && m.HandedOver()
}

// Parse returns the modes with these names, separated by commas.
func Parse(names string) ([]load.Mode, error) {
	var modes []load.Mode
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(load.Modes, func(m load.Mode) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no mode is called %q", name)
		}
		modes = append(modes, load.Modes[i])
	}
	return modes, nil
}
