package gauntlet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// A Canary is what part of the new connections a process got that was to get a
// share of them while it baked.
type Canary struct {
	Percent     int   `json:"percent"`
	Connections int64 `json:"connections"`
	Failed      int64 `json:"failed"`
	Asked       int64 `json:"asked"` // connections: the share of all
	Got         int64 `json:"got"`
	Kept        bool  `json:"kept"` // it got what it was to get, and nothing was lost
}

// deck is how many connections are dealt before it begins anew, and the share is exact.
const deck = 10000

// judge compares what the new process got with what it was to get: exactly its share of
// each whole deck, and of a part of one what its cards may be there.
func (c *Canary) judge() {
	cards, part := int64(c.Percent)*deck/100, c.Connections%deck
	whole := c.Connections / deck * cards
	least, most := whole+max(0, part-(deck-cards)), whole+min(part, cards)
	c.Asked = (c.Connections*int64(c.Percent) + 50) / 100
	c.Kept = c.Failed == 0 && least <= c.Got && c.Got <= most
}

// Canaries makes as many connections for each of the shares, in per cent, and counts
// who got them.
func (k *Kit) Canaries(ctx context.Context, o Options, percents []int, connections int64) ([]Canary, error) {
	o.Steer, o.Worker = true, "plain"
	o.Bake = time.Hour // longer than it takes to count
	o = o.Fill()
	var all []Canary
	for _, percent := range percents {
		o.Say("%d connections, %d%% of them for the new process", connections, percent)
		o.Canary = percent
		c := Canary{Percent: percent}
		if err := k.gauntlet(o).canary(ctx, connections, &c); err != nil {
			return nil, err
		}
		c.judge()
		all = append(all, c)
	}
	return all, nil
}

func (g *gauntlet) canary(ctx context.Context, connections int64, c *Canary) (err error) {
	if err := g.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	if err := g.serve(ctx); err != nil {
		return err
	}
	main := g.connections(ctx, 1, 1)
	stop, err := g.supervisor.Until(ctx, "baking", "reload", "api")
	if err != nil {
		return err
	}
	defer stop()
	r := g.connections(ctx, g.Clients, connections/int64(g.Clients))
	c.Connections, c.Failed, c.Got = r.OK, r.Failed, r.OK
	for pid := range main.Servers {
		c.Got -= r.Servers[pid]
	}
	return nil
}

func (g *gauntlet) connections(ctx context.Context, clients int, each int64) *load.Result {
	o := g.load(load.Modes[0])
	o.Clients, o.Requests, o.Pause, o.Rate = clients, each, 0, 0
	return load.Run(ctx, o)
}

// PrintCanaries writes them for people.
func PrintCanaries(w io.Writer, all []Canary) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "canary\tconnections\tfailed\tasked\tgot\tgot %\t\n")
	for _, c := range all {
		verdict := ""
		if !c.Kept {
			verdict = " PROBLEM: that is not its share"
		}
		fmt.Fprintf(t, "%d%%\t%d\t%d\t%d\t%d\t%.2f%%\t%s\n", c.Percent, c.Connections, c.Failed, c.Asked, c.Got,
			100*float64(c.Got)/float64(max(c.Connections, 1)), verdict)
	}
	t.Flush()
}
