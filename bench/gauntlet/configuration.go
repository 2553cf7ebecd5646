package gauntlet

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/supervisord-go/supervisord/bench/load"
)

// sockets are all that the service can have, in the order of its configuration.
var sockets = []load.Socket{load.Plain, load.Unix, load.TLS, load.TCP}

// addresses are what each socket listens on: ports that were free a moment ago,
// since the clients need to know them before they are bound.
func addresses(dir string) (map[load.Socket]string, error) {
	a := map[load.Socket]string{load.Unix: filepath.Join(dir, "api.sock")}
	for _, s := range sockets {
		if s == load.Unix {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // when all are known, or two could be the same
		a[s] = l.Addr().String()
	}
	return a, nil
}

func (g *gauntlet) configuration() string {
	if g.Own {
		return g.service("-listen", g.addresses[load.Plain])
	}
	var b strings.Builder
	for _, s := range g.sockets() {
		fmt.Fprintf(&b, "[socket.%s]\nlisten_stream = [%q]\n", s, g.addresses[s])
		fmt.Fprintf(&b, "steer = %q\n\n", map[bool]string{true: "connections", false: "off"}[g.steered(s)])
	}
	return b.String() + g.service("-certificate", g.certificate())
}

func (g *gauntlet) service(args ...string) string {
	names := g.sockets()
	if g.Own {
		names = nil
	}
	argv := append([]string{
		g.releases.Current(), "-ledger", g.ledger(), "-pace", g.Pace.String(), "-late", g.Late.String(), fmt.Sprintf("-stall=%v", g.Stall),
	}, args...)
	return fmt.Sprintf(`[service.api]
exec_start = [%s]
type = "notify"
sockets = [%s]
handover = %v
restart = "no"
timeout_start_sec = %q
timeout_stop_sec = %q

[service.api.reload]
bake = %q
settle = %q
%s`, quoted(argv), quoted(names), g.Handover, startTimeout, stopTimeout, g.Bake, g.settle(), g.canaryKey())
}

// canaryKey is only for a steered socket: no other can give a process a share.
func (g *gauntlet) canaryKey() string {
	if !g.Steer {
		return ""
	}
	return fmt.Sprintf("canary = \"%d%%\"\n", g.Canary)
}

func quoted[S ~string](list []S) string {
	var q []string
	for _, s := range list {
		q = append(q, fmt.Sprintf("%q", s))
	}
	return strings.Join(q, ", ")
}
