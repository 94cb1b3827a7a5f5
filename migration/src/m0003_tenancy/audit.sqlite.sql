create trigger audit_entry_is_noted after insert on audit_entries begin
    insert into audit_pending (tenant_id, entry_id) values (new.tenant_id, new.id);
end;
