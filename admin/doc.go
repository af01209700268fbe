// Package admin is the operator's side of a node: /metrics for Prometheus, /healthz and /readyz for supervisors,
// /api/v1/status as JSON for `helenus status`. It is bound to a loopback address unless the configuration says
// otherwise, has no authentication, and changes nothing.
//
// What is shown is handed in as functions at construction; the package knows no component.
package admin
