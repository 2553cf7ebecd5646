package main

import (
	"net"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// A control is the control socket as it is bound now. One goroutine uses it at a
// time.
type control struct {
	listener *net.UnixListener
	node     ipc.Node
}

// bindControl binds the control socket where the path does not lead to it any more,
// and says whether it had to.
func (d *assembly) bindControl() (bound bool, err error) {
	dir := d.store.Runtime()
	if d.control.listener != nil && d.control.node == ipc.NodeOf(dir, config.ControlSocket) && d.control.node != (ipc.Node{}) {
		return false, nil
	}
	l, err := ipc.Listen(dir, config.ControlSocket)
	if err != nil {
		return false, err
	}
	go d.server.Serve(l)
	if d.control.listener != nil {
		d.control.listener.Close() // nobody finds it; who is connected stays so
	}
	d.control = control{l, ipc.NodeOf(dir, config.ControlSocket)}
	return true, nil
}

// mend makes again what somebody has removed of the runtime directory.
func (d *assembly) mend() {
	err := d.store.Mend()
	var bound bool
	if err == nil {
		d.manager.RenewNotify()
		bound, err = d.bindControl()
	}
	if err != nil {
		d.log.Error().Str("hint", "supervisord goes on; it tries again with the next start or change of a service, and at SIGHUP").Msg(err.Error())
	} else if bound {
		d.log.Warn().Msg("somebody has removed the control socket in " + d.store.Runtime().Path() + ": bound it again")
	}
}
