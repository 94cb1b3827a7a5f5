-- The words of a message or a title, as the server cut them: no dictionary of the database is asked.
create table search_texts (
    id uuid primary key,
    tenant_id uuid not null,
    conversation_id uuid not null,
    terms tsvector not null
);
create index search_texts_terms on search_texts using gin (terms);
create index search_texts_conversation on search_texts (conversation_id);
