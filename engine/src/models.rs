//! Being built.

impl crate::Engine {
    /// Being built.
    pub async fn endpoint(&self, _tx: &entities::Tx, _model: &entities::llm_model::Model) -> Result<providers::Endpoint, entities::DbErr> {
        Err(entities::DbErr::Custom(String::new()))
    }
}
