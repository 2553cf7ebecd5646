package rig

import (
	"context"
	"encoding/json"
	"fmt"
)

// A Unit is a service as superctl status has it.
type Unit struct {
	Name     string `json:"name"`
	Restarts int    `json:"restarts"`
}

// Units asks for all services.
func (c Ctl) Units(ctx context.Context) ([]Unit, error) {
	a, err := c.Must(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var status struct {
		Services []Unit `json:"services"`
	}
	if err := json.Unmarshal([]byte(a.Stdout), &status); err != nil {
		return nil, fmt.Errorf("cannot read superctl's answer: %w", err)
	}
	return status.Services, nil
}
