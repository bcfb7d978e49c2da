/* The header that Arduino's menu includes. */
#ifndef SCALPEL_MODEL_H
#define SCALPEL_MODEL_H

#include "model.h"

#endif /* SCALPEL_MODEL_H */
