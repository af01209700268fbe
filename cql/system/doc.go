// Package system answers reads of the tables that describe the cluster and the schema: system.local, system.peers,
// system.peers_v2, system_schema, system_virtual_schema and system_views. Nothing of them is stored: rows are computed
// from the metadata and encoded as a replica would encode them, so that the ordinary plan
// (filters, IN, projections, paging, aggregates) runs over them.
//
// Tables that are defined and that nothing fills have no rows. What is shown, null columns included, is what drivers
// demand of Apache Cassandra 5.0.8.
package system
