package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// systemSocket is the control socket of the supervisord that root runs.
const systemSocket = "/run/supervisord/" + ipc.SocketName

// client is for the supervisord that is meant.
func (a *app) client() *ipc.Client { return ipc.NewClient(a.socketPath(), a.owner) }

// socketPath is, in this order: what --socket says, what $SUPERVISORD_SOCKET
// says, the socket of our own supervisord if there is one, the system's.
func (a *app) socketPath() string {
	if a.socket != "" {
		return a.socket
	}
	if path := os.Getenv("SUPERVISORD_SOCKET"); path != "" {
		return path
	}
	if path := ownSocket(); path != "" {
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return systemSocket
}

// ownSocket is where a supervisord that this user started without root makes its
// control socket by default.
func ownSocket() string {
	if os.Geteuid() == 0 {
		return systemSocket
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "supervisord", ipc.SocketName)
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "supervisord", "run", ipc.SocketName)
}

// completionTime is for how long a shell is kept waiting for names.
const completionTime = 300 * time.Millisecond

// unitNames completes names of services. Whatever is wrong, it offers nothing
// and says nothing.
func (a *app) unitNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTime)
	defer cancel()
	st, err := a.client().Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, u := range st.Services {
		if ipc.CheckUnit(u.Name) == nil {
			names = append(names, u.Name+"\t"+printable(u.ActiveState+" ("+u.SubState+")"))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
