// Superctl shows and changes what supervisord does, over its control socket.
//
// Each command is a value, in a file of its own, and the list of commands is
// [commands]. A command asks, and hands what came of it to the [voice], which
// alone writes to the terminal. What went wrong is an error, and [exitStatus]
// and [voice.complain] say what that means.
package main

import (
	"context"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := interruptible()
	status := run(ctx, newVoice(os.Stdout, os.Stderr), os.Args[1:])
	stop()
	os.Exit(status)
}

// interruptible is ended by Ctrl-C, with [errDetached] as its cause. It does not
// cancel what was asked for.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	go func() {
		if _, ok := <-signals; ok {
			cancel(errDetached)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
	}
}
