// Package admin is the operator's side of a node: /metrics for Prometheus, /healthz and /readyz for supervisors,
// /api/v1/... as JSON for the operator's commands (`helenus status` and the like). It is bound to a loopback address unless the
// configuration says otherwise, and has no authentication: who reaches it may flush, compact, take, remove and restore snapshots,
// and sees no row.
//
// What is shown is handed in as functions at construction; the package knows no component.
package admin
