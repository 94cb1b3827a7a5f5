//! What is read of tenants, people, groups, shares and the audit log, as different people see it.

mod audit;
mod groups;
mod house;
mod people;
mod sharing;
