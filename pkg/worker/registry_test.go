package worker

import (
	"crypto/tls"
	"testing"
)

// Connections that were hijacked below TLS of a listener's own are not kept for ever.
func TestForeignConnectionsThatAreClosedAreForgotten(t *testing.T) {
	g := &Group{}
	d := &door{group: g, service: &service{protocol: connProtocol{}}}
	_, open := connection(t)
	stays := newConn(d, tls.Server(open, nil))
	g.conns.addForeign(stays)
	for range 10 * fewForeign {
		_, server := connection(t)
		c := newConn(d, tls.Server(server, nil))
		g.conns.addForeign(c)
		server.Close()
	}
	if n := len(g.conns.all()); n > 2*fewForeign {
		t.Errorf("%d connections are known", n)
	}
	if g.conns.find(stays.Conn) != stays {
		t.Error("the one that is open is not known any more")
	}
}
